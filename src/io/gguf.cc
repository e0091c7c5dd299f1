#include "io/gguf.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "base/hash.h"
#include "base/text_file.h"

namespace lewis {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is read as little-endian");

constexpr std::string_view kMagic = "GGUF";
constexpr uint32_t kVersion = 3, kText = 8, kArray = 9;
constexpr uint64_t kAlignment = 32;  // where general.alignment does not say otherwise
constexpr uint64_t kMaxAlignment = 1 << 20;
constexpr uint32_t kMaxDimensions = 4;  // GGML_MAX_DIMS
constexpr size_t kMaxName = 63;         // GGML_MAX_NAME - 1: llama.cpp reads no longer names

// Plain numbers.
struct TypeRow {
  uint32_t number;  // enum ggml_type
  DType dtype;
};
constexpr std::array<TypeRow, 8> kTypes = {{{0, DType::kF32},
                                            {1, DType::kF16},
                                            {24, DType::kI8},
                                            {25, DType::kI16},
                                            {26, DType::kI32},
                                            {27, DType::kI64},
                                            {28, DType::kF64},
                                            {30, DType::kBF16}}};

uint64_t align(uint64_t at, uint64_t alignment) { return (at + alignment - 1) & ~(alignment - 1); }

// Reads the header from its start, never beyond the end of the file.
class Cursor {
 public:
  explicit Cursor(const File& file) : file_(file), size_(file.size()) {}

  uint64_t at() const { return at_; }
  uint64_t left() const { return size_ - at_; }
  std::string where() const { return file_.path().string(); }

  void bytes(std::span<std::byte> out, std::string_view what) {
    if (out.size() > left()) {
      throw input_error("{}: {} needs {} bytes at byte {}, the file has {}: truncated?", where(),
                        what, out.size(), at_, left());
    }
    file_.read_at(at_, out);
    at_ += out.size();
  }

  template <typename T>
  T number(std::string_view what) {
    T value{};
    bytes(std::as_writable_bytes(std::span(&value, 1)), what);
    return value;
  }

  // The number of things, of at least `bytes` bytes each, that follow.
  uint64_t count(uint64_t bytes, std::string_view what) {
    const auto n = number<uint64_t>(what);
    if (n > left() / bytes) {
      throw input_error("{}: {} is {}, the file has {} bytes behind it: truncated?", where(), what,
                        n, left());
    }
    return n;
  }

  std::string text(std::string_view what) {
    std::string text(count(1, fmt::format("the length of {}", what)), '\0');
    bytes(std::as_writable_bytes(std::span(text)), what);
    if (!is_utf8(text)) throw input_error("{}: {} is not UTF-8", where(), what);
    return text;
  }

  // A text that messages can show.
  std::string name(std::string_view what) {
    std::string name = text(what);
    const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20; };
    if (name.empty() || std::ranges::any_of(name, control))
      throw input_error("{}: {} is empty or holds control characters", where(), what);
    return name;
  }

 private:
  const File& file_;
  uint64_t size_, at_ = 0;
};

// ---- metadata ----

size_t number_size(uint32_t type) {
  static constexpr std::array<size_t, 13> kSizes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return type < kSizes.size() ? kSizes[type] : 0;
}

GgufArray read_array(Cursor& cursor, const std::string& what) {
  GgufArray array;
  array.type = cursor.number<uint32_t>(what);
  const size_t size = number_size(array.type);
  if (array.type != kText && size == 0) {
    throw input_error("{}: {} is an array of type {}, expected texts or numbers", cursor.where(),
                      what, array.type);
  }
  const uint64_t count = cursor.count(size ? size : sizeof(uint64_t), "the length of " + what);
  array.numbers.resize(count * size);
  cursor.bytes(array.numbers, what);
  if (array.type != kText) return array;
  for (uint64_t i = 0; i < count; ++i) array.texts.push_back(cursor.text(what));
  return array;
}

template <size_t kType = 0>
GgufValue read_value(Cursor& cursor, uint32_t type, const std::string& what) {
  if constexpr (kType == std::variant_size_v<GgufValue>) {
    throw input_error("{}: {} has type {}, at most {} is known", cursor.where(), what, type,
                      kType - 1);
  } else {
    using T = std::variant_alternative_t<kType, GgufValue>;
    if (type != kType) return read_value<kType + 1>(cursor, type, what);
    if constexpr (std::is_same_v<T, std::string>) {
      return cursor.text(what);
    } else if constexpr (std::is_same_v<T, GgufArray>) {
      return read_array(cursor, what);
    } else if constexpr (std::is_same_v<T, bool>) {
      const auto value = cursor.number<uint8_t>(what);
      if (value > 1)
        throw input_error("{}: {} is {}, expected 0 or 1", cursor.where(), what, value);
      return value == 1;
    } else {
      return cursor.number<T>(what);
    }
  }
}

GgufMetadata read_metadata(Cursor& cursor, uint64_t count) {
  GgufMetadata metadata;
  for (uint64_t i = 0; i < count; ++i) {
    const std::string key = cursor.name(fmt::format("the name of key {}", i));
    const std::string what = fmt::format("key '{}'", key);
    const auto type = cursor.number<uint32_t>(what);
    if (!metadata.emplace(key, read_value(cursor, type, what)).second)
      throw input_error("{}: {} is there twice", cursor.where(), what);
  }
  return metadata;
}

uint64_t alignment_of(const GgufMetadata& metadata, const Cursor& cursor) {
  const auto it = metadata.find("general.alignment");
  if (it == metadata.end()) return kAlignment;
  const uint32_t* value = std::get_if<uint32_t>(&it->second);
  if (!value || !std::has_single_bit(*value) || *value < 8 || *value > kMaxAlignment) {
    throw input_error("{}: key 'general.alignment' is no power of two in [8, {}] of type u32",
                      cursor.where(), kMaxAlignment);
  }
  return *value;
}

// ---- tensors ----

void read_type(Cursor& cursor, const std::string& what, uint64_t elements, GgufFile::Entry& entry) {
  const auto number = cursor.number<uint32_t>(what);
  TensorInfo& info = entry.info;
  const auto plain = std::ranges::find(kTypes, number, &TypeRow::number);
  if (plain != kTypes.end()) {
    info.dtype = plain->dtype;
    entry.bytes = byte_size(info);
    return;
  }
  const GgufTypeInfo* row = find_gguf_type(number);
  if (!row) {
    std::vector<std::string_view> known;
    for (const GgufTypeInfo& type : gguf_types()) known.push_back(type.name);
    throw input_error("{}: {} has type {}, expected plain numbers or one of {}", cursor.where(),
                      what, number, fmt::join(known, ", "));
  }
  if (info.shape.empty() || info.shape.back() % row->block != 0) {
    throw input_error("{}: {} is {} of type {}: its rows fill no blocks of {}", cursor.where(),
                      what, to_string(info.shape), row->name, row->block);
  }
  info.dtype = DType::kF32;
  entry.type = row->type;
  entry.bytes = elements / static_cast<uint64_t>(row->block) * row->bytes;
}

// One tensor; `begin` from the start of the data.
GgufFile::Entry read_entry(Cursor& cursor, uint64_t index) {
  GgufFile::Entry entry;
  TensorInfo& info = entry.info;
  info.name = cursor.name(fmt::format("the name of tensor {}", index));
  const std::string what = fmt::format("tensor {}", info.name);
  const auto dimensions = cursor.number<uint32_t>(what);
  if (dimensions > kMaxDimensions) {
    throw input_error("{}: {} has {} dimensions, expected at most {}", cursor.where(), what,
                      dimensions, kMaxDimensions);
  }
  uint64_t elements = 1;
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto size = cursor.number<uint64_t>(what);
    if (size == 0 || __builtin_mul_overflow(elements, size, &elements) || elements > INT64_MAX / 8)
      throw input_error("{}: {} has a size of {}: zero or too large", cursor.where(), what, size);
    info.shape.insert(info.shape.begin(), static_cast<int64_t>(size));
  }
  read_type(cursor, what, elements, entry);
  entry.begin = cursor.number<uint64_t>(what);
  return entry;
}

// Tensors must follow each other, each at the next multiple of the alignment, up to the end of the
// file (whose padding may be missing).
void place_tensors(std::vector<GgufFile::Entry>& entries, const Cursor& cursor,
                   uint64_t alignment) {
  std::ranges::sort(entries, {}, &GgufFile::Entry::begin);
  const uint64_t data_begin = align(cursor.at(), alignment), size = cursor.at() + cursor.left();
  uint64_t end = cursor.at();
  for (GgufFile::Entry& entry : entries) {
    const uint64_t expected = align(end, alignment) - data_begin;
    if (entry.begin != expected) {
      throw input_error("{}: tensor {} begins at byte {} of the data, expected {}: {}",
                        cursor.where(), entry.info.name, entry.begin, expected,
                        entry.begin < expected ? "it overlaps another" : "there is a hole");
    }
    entry.begin += data_begin;
    end = entry.begin + entry.bytes;
    if (end > size) {
      throw input_error("{}: tensor {} ends at byte {}, the file has {}: truncated?",
                        cursor.where(), entry.info.name, end, size);
    }
  }
  if (size > align(end, alignment)) {
    throw input_error("{}: the tensors end at byte {}, the file has {}: something was appended?",
                      cursor.where(), end, size);
  }
}

// ---- writing ----

template <typename T>
requires std::is_arithmetic_v<T>
void append(std::string& out, T number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}
void append(std::string& out, std::string_view text) {
  append(out, uint64_t{text.size()});
  out += text;
}
void append(std::string& out, const GgufArray& array) {
  append(out, array.type);
  if (array.type == kText) {
    append(out, uint64_t{array.texts.size()});
    for (const std::string& text : array.texts) append(out, std::string_view(text));
  } else {
    append(out, uint64_t{array.numbers.size() / number_size(array.type)});
    out.append(reinterpret_cast<const char*>(array.numbers.data()), array.numbers.size());
  }
}

// What the header says of a tensor.
struct HeaderTensor {
  std::string_view name;
  uint32_t type = 0;
  const Shape& shape;
  uint64_t bytes = 0;
};

// The header, padded to the first tensor's place, and the tensors' places behind it.
GgufLayout lay_out(const GgufMetadata& metadata, const std::vector<HeaderTensor>& tensors) {
  GgufLayout layout;
  std::string& out = layout.header;
  out = kMagic;
  append(out, kVersion);
  append(out, uint64_t{tensors.size()});
  append(out, uint64_t{metadata.size()});
  for (const auto& [key, value] : metadata) {
    append(out, std::string_view(key));
    append(out, static_cast<uint32_t>(value.index()));
    std::visit([&](const auto& v) { append(out, v); }, value);
  }
  uint64_t begin = 0;
  for (const HeaderTensor& t : tensors) {
    if (t.shape.size() > kMaxDimensions || t.name.size() > kMaxName) {
      throw failed_error("tensor {}, {}: GGUF has no place for it (names of at most {} bytes)",
                         t.name, to_string(t.shape), kMaxName);
    }
    append(out, t.name);
    append(out, static_cast<uint32_t>(t.shape.size()));
    for (auto size = t.shape.rbegin(); size != t.shape.rend(); ++size)
      append(out, static_cast<uint64_t>(*size));
    append(out, t.type);
    append(out, begin);
    layout.begins.push_back(begin);
    begin = align(begin + t.bytes, kAlignment);
  }
  out.resize(align(out.size(), kAlignment), '\0');
  for (uint64_t& place : layout.begins) place += out.size();
  layout.file_bytes = out.size() + begin;
  return layout;
}

uint32_t type_number(const TensorInfo& t) {
  const auto row = std::ranges::find(kTypes, t.dtype, &TypeRow::dtype);
  if (row == kTypes.end())
    throw failed_error("tensor {}, {}: GGUF has no place for it", t.name, dtype_name(t.dtype));
  return row->number;
}

}  // namespace

size_t GgufArray::size() const {
  return type == kText ? texts.size() : numbers.size() / std::max<size_t>(1, number_size(type));
}

bool is_gguf_path(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return false;
  if (path.extension() == ".gguf") return true;
  try {
    return is_gguf(path);
  } catch (const Error&) {
    return false;  // whoever reads it says why
  }
}

bool is_gguf(const std::filesystem::path& path) {
  const File file = File::open_read(path);
  std::string magic(kMagic.size(), '\0');
  if (file.size() < magic.size()) return false;
  file.read_at(0, std::as_writable_bytes(std::span(magic)));
  return magic == kMagic;
}

GgufFile::GgufFile(const std::filesystem::path& path) : path_(path), file_(File::open_read(path)) {
  if (!is_gguf(path)) throw input_error("{}: does not begin with '{}'", path.string(), kMagic);
  Cursor cursor(file_);
  cursor.number<uint32_t>("the magic");
  const auto version = cursor.number<uint32_t>("the version");
  if (version != kVersion) {
    throw input_error("{}: GGUF version {}, expected {}{}", path.string(), version, kVersion,
                      version == __builtin_bswap32(kVersion) ? " (it is big-endian)" : "");
  }
  // A tensor takes at least 8 + 1 + 4 + 4 + 8 bytes, a key 8 + 1 + 4 + 1.
  const uint64_t tensors = cursor.count(25, "the number of tensors");
  const uint64_t keys = cursor.count(14, "the number of keys");
  metadata_ = read_metadata(cursor, keys);
  for (uint64_t i = 0; i < tensors; ++i) entries_.push_back(read_entry(cursor, i));
  header_bytes_ = cursor.at();
  place_tensors(entries_, cursor, alignment_of(metadata_, cursor));
  const auto name = [](const Entry& e) -> const std::string& { return e.info.name; };
  std::ranges::sort(entries_, {}, name);
  const auto twice = std::ranges::adjacent_find(entries_, {}, name);
  if (twice != entries_.end())
    throw input_error("{}: tensor {} is there twice", path.string(), twice->info.name);
}

const GgufFile::Entry* GgufFile::find(std::string_view name) const {
  const auto it = std::ranges::lower_bound(
      entries_, name, {}, [](const Entry& e) -> std::string_view { return e.info.name; });
  return it != entries_.end() && it->info.name == name ? &*it : nullptr;
}

void GgufFile::read(const Entry& entry, uint64_t offset, std::span<std::byte> out) const {
  file_.read_at(entry.begin + offset, out);
}

std::string GgufFile::state() const {
  struct stat info {};
  if (::stat(path_.c_str(), &info) != 0) throw input_error("{}: is gone", path_.string());
  Sha256 hash;
  constexpr uint64_t kPiece = 1 << 20;
  std::string piece;
  for (uint64_t at = 0; at < header_bytes_; at += kPiece) {
    piece.resize(std::min(kPiece, header_bytes_ - at));
    file_.read_at(at, std::as_writable_bytes(std::span(piece)));
    hash.add(piece);
  }
  return fmt::format("{} {} {}.{:09} {}", path_.filename().string(), info.st_size,
                     info.st_mtim.tv_sec, info.st_mtim.tv_nsec, hash.hex());
}

GgufLayout lay_out_gguf(const GgufMetadata& metadata, const std::vector<GgufTensor>& tensors) {
  std::vector<HeaderTensor> rows;
  for (const GgufTensor& t : tensors)
    rows.push_back({t.name, static_cast<uint32_t>(t.type), t.shape,
                    gguf_bytes(t.type, element_count(t.shape))});
  return lay_out(metadata, rows);
}

void write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata,
                const std::vector<TensorInfo>& tensors,
                std::span<const std::span<const std::byte>> data) {
  std::vector<HeaderTensor> rows;
  for (const TensorInfo& t : tensors)
    rows.push_back({t.name, type_number(t), t.shape, byte_size(t)});
  const GgufLayout layout = lay_out(metadata, rows);
  write_file_durably(path, [&](const File& file) {
    file.write_at(0, std::as_bytes(std::span(layout.header)));
    uint64_t at = layout.header.size();
    static constexpr std::array<std::byte, kAlignment> kZeros = {};
    for (size_t i = 0; i < tensors.size(); ++i) {
      file.write_at(at, data[i]);
      const uint64_t end = at + data[i].size();
      at = align(end, kAlignment);
      file.write_at(end, std::span(kZeros).first(at - end));
    }
  });
}

}  // namespace lewis
