#include "io/safetensors.h"

#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "base/dump_json.h"
#include "base/error.h"
#include "base/json.h"
#include "base/text_file.h"
#include "io/plain_json.h"
#include "io/tensor_bytes.h"

namespace lewis {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;
constexpr size_t kMostPlainMetadata = 100'000;  // programs write a few entries

// A value as messages show it.
std::string short_text(const Json& value) {
  constexpr size_t kLongest = 60;
  const std::string text = value.dump(-1, ' ', true);
  return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

uint64_t natural(const Json& value, std::string_view what) {
  if (!value.is_number_unsigned())
    throw input_error("{} is {}, expected a non-negative integer", what, short_text(value));
  return value.get<uint64_t>();
}

struct Parsed {
  SafetensorsFile::Entry entry;
  uint64_t end = 0;
};

void check_offsets(const Parsed& parsed) {
  const TensorInfo& info = parsed.entry.info;
  const uint64_t expected = checked_byte_size(info);
  if (parsed.end >= parsed.entry.begin && parsed.end - parsed.entry.begin == expected) return;
  throw input_error("{} of {} needs {} bytes, data_offsets [{}, {}] hold something else",
                    to_string(info.shape), dtype_name(info.dtype), expected, parsed.entry.begin,
                    parsed.end);
}

Parsed parse_tensor(const Json& value) {
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") ||
      !value.contains("shape") || !value.contains("data_offsets")) {
    throw input_error("expected exactly dtype, shape and data_offsets");
  }
  Parsed parsed;
  TensorInfo& info = parsed.entry.info;
  const auto dtype = value["dtype"].is_string() ? dtype_from_name(value["dtype"].get<std::string>())
                                                : std::nullopt;
  if (!dtype) throw input_error("dtype {} is not known", short_text(value["dtype"]));
  info.dtype = *dtype;
  if (!value["shape"].is_array()) throw input_error("shape is not a list");
  for (const Json& size : value["shape"]) {
    const uint64_t n = natural(size, "a size of the shape");
    if (n > INT64_MAX) throw input_error("size {} is too large", n);
    info.shape.push_back(static_cast<int64_t>(n));
  }
  const Json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2)
    throw input_error("data_offsets are not two numbers");
  parsed.entry.begin = natural(offsets[0], "data_offsets[0]");
  parsed.end = natural(offsets[1], "data_offsets[1]");
  check_offsets(parsed);
  return parsed;
}

Error of_tensor(const Error& e, std::string_view name, const std::filesystem::path& path) {
  return Error(e.code(), fmt::format("{}: tensor {}: {}", path.string(), name, e.what()));
}

// `name` is moved from.
Parsed parse_entry(std::string& name, const Json& value, const std::filesystem::path& path) {
  try {
    Parsed parsed = parse_tensor(value);
    parsed.entry.info.name = std::move(name);
    return parsed;
  } catch (const Error& e) {
    throw of_tensor(e, name, path);
  }
}

// Tensors must follow each other without hole or overlap, up to the end of the file.
void check_tiling(const std::vector<Parsed>& tensors, uint64_t data_bytes,
                  const std::filesystem::path& path) {
  std::vector<const Parsed*> in_place;
  for (const Parsed& t : tensors) in_place.push_back(&t);
  std::ranges::sort(in_place, {},
                    [](const Parsed* t) { return std::pair(t->entry.begin, t->end); });
  uint64_t at = 0;
  for (const Parsed* t : in_place) {
    if (t->entry.begin != at) {
      throw input_error("{}: tensor {} begins at byte {} of the data, expected {}: {}",
                        path.string(), t->entry.info.name, t->entry.begin, at,
                        t->entry.begin < at ? "it overlaps another" : "there is a hole");
    }
    at = t->end;
  }
  if (at != data_bytes) {
    throw input_error("{}: the header describes {} bytes of data, the file has {}: {}",
                      path.string(), at, data_bytes,
                      data_bytes < at ? "truncated?" : "something was appended?");
  }
}

Metadata parse_metadata(Json& value, const std::filesystem::path& path) {
  if (!value.is_object()) throw input_error("{}: __metadata__ is not an object", path.string());
  Metadata metadata;
  for (auto& [key, text] : value.items()) {
    if (!text.is_string())
      throw input_error("{}: __metadata__.{} is not a string", path.string(), key);
    metadata.emplace(key, std::move(text.get_ref<std::string&>()));
  }
  return metadata;
}

Error duplicate_key(const std::filesystem::path& path, std::string_view key) {
  return input_error("{}: header: not valid JSON: duplicate key '{}'", path.string(), key);
}

// Sorts by name.
void check_names(std::vector<Parsed>& tensors, const std::filesystem::path& path) {
  const auto name_of = [](const Parsed& t) -> auto& { return t.entry.info.name; };
  std::ranges::sort(tensors, {}, name_of);
  const auto twice = std::ranges::adjacent_find(tensors, {}, name_of);
  if (twice != tensors.end()) throw duplicate_key(path, twice->entry.info.name);
}

struct Header {
  std::vector<Parsed> tensors;
  Metadata metadata;
};

Header parse_header(const std::string& text, const std::filesystem::path& path) {
  Header header;
  bool has_metadata = false;
  const auto take = [&](std::string& name, Json& value) {
    if (name != "__metadata__") return header.tensors.push_back(parse_entry(name, value, path));
    if (std::exchange(has_metadata, true)) throw duplicate_key(path, name);
    header.metadata = parse_metadata(value, path);
  };
  if (!parse_json_members(text, path.string() + ": header", "", take).is_object())
    throw input_error("{}: the header is not a JSON object", path.string());
  return header;
}

// The same for a header as programs write it; false for any other (io/plain_json.h).
bool scan_tensor(PlainJson& json, Parsed& parsed) {
  TensorInfo& info = parsed.entry.info;
  std::string_view name;
  if (!json.take('{') || !json.key_is("dtype") || !json.string(name)) return false;
  const auto dtype = dtype_from_name(name);
  if (!dtype || !json.take(',') || !json.key_is("shape") || !json.take('[')) return false;
  info.dtype = *dtype;
  if (!json.take(']')) {
    do {
      uint64_t size = 0;
      if (!json.natural(size) || size > INT64_MAX) return false;
      info.shape.push_back(static_cast<int64_t>(size));
    } while (json.take(','));
    if (!json.take(']')) return false;
  }
  return json.take(',') && json.key_is("data_offsets") && json.take('[') &&
         json.natural(parsed.entry.begin) && json.take(',') && json.natural(parsed.end) &&
         json.take(']') && json.take('}');
}

bool scan_metadata(PlainJson& json, Metadata& metadata) {
  if (!metadata.empty() || !json.take('{')) return false;
  do {
    std::string_view key, value;
    if (!json.key(key) || !json.string(value)) return false;
    if (!metadata.emplace(key, value).second || metadata.size() > kMostPlainMetadata) return false;
  } while (json.take(','));
  return json.take('}');
}

bool scan_header(const std::string& text, const std::filesystem::path& path, Header& header) {
  if (!is_utf8(text)) return false;
  PlainJson json(text);
  if (!json.take('{')) return false;
  do {
    std::string_view name;
    if (!json.key(name)) return false;
    if (name == "__metadata__") {
      if (!scan_metadata(json, header.metadata)) return false;
      continue;
    }
    Parsed& parsed = header.tensors.emplace_back();
    if (!scan_tensor(json, parsed)) return false;
    parsed.entry.info.name = name;
    try {
      check_offsets(parsed);
    } catch (const Error& e) {
      throw of_tensor(e, name, path);
    }
  } while (json.take(','));
  return json.take('}') && json.is_at_end();
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : path_(path), file_(File::open_read(path)) {
  prove(file_->size());
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path,
                                 std::shared_ptr<const RangeSource> far)
    : path_(path), far_(std::move(far)) {
  prove(far_->size());
}

std::string SafetensorsFile::read_header(uint64_t size) const {
  if (size < 8)
    throw input_error("{}: {} bytes, expected at least the 8 of the header's length",
                      path_.string(), size);
  uint64_t length = 0;
  read_at(0, std::as_writable_bytes(std::span(&length, 1)));
  std::string begin(std::min<uint64_t>(size, 64), '\0');
  read_at(0, std::as_writable_bytes(std::span(begin)));
  if (is_lfs_pointer(begin)) throw lfs_pointer_error(path_);
  if (length > kMaxHeader) {
    throw input_error(
        "{}: the header claims {} bytes, at most {} are accepted: not a safetensors file?",
        path_.string(), length, kMaxHeader);
  }
  if (length > size - 8) {
    throw input_error(
        "{}: the header claims {} bytes, the file has {} behind the length: truncated?",
        path_.string(), length, size - 8);
  }
  std::string header(length, '\0');
  read_at(8, std::as_writable_bytes(std::span(header)));
  return header;
}

// Reads the header and proves it; `size`: of the file.
void SafetensorsFile::prove(uint64_t size) {
  header_ = read_header(size);
  Header header;
  if (!scan_header(header_, path_, header)) header = parse_header(header_, path_);
  metadata_ = std::move(header.metadata);
  check_names(header.tensors, path_);
  const uint64_t data_begin = 8 + header_.size();
  check_tiling(header.tensors, size - data_begin, path_);
  entries_.reserve(header.tensors.size());
  for (Parsed& t : header.tensors) {
    t.entry.begin += data_begin;
    entries_.push_back(std::move(t.entry));
  }
}

const SafetensorsFile::Entry* SafetensorsFile::find(std::string_view name) const {
  const auto it =
      std::lower_bound(entries_.begin(), entries_.end(), name,
                       [](const Entry& e, std::string_view n) { return e.info.name < n; });
  return it != entries_.end() && it->info.name == name ? &*it : nullptr;
}

void SafetensorsFile::read(const Entry& entry, uint64_t offset, std::span<std::byte> out) const {
  try {
    read_at(entry.begin + offset, out);
  } catch (const Error& e) {
    if (e.code() == ExitCode::kInterrupted) throw;
    throw Error(e.code(), fmt::format("{} (tensor {})", e.what(), entry.info.name));
  }
}

std::optional<FilePlace> SafetensorsFile::far_place(const Entry& entry) const {
  if (!far_) return std::nullopt;
  return FilePlace{far_.get(), entry.begin, byte_size(entry.info)};
}

std::string SafetensorsFile::state() const {
  if (far_) return far_->identity();
  struct stat info {};
  if (::stat(path_.c_str(), &info) != 0) throw input_error("{}: is gone", path_.string());
  return fmt::format("{} {}.{:09}", info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
}

SafetensorsLayout::SafetensorsLayout(std::vector<TensorInfo> tensors, const Metadata& metadata) {
  std::stable_sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return dtype_size(a.dtype) > dtype_size(b.dtype);
  });
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t at = 0;
  for (TensorInfo& t : tensors) {
    const uint64_t end = at + byte_size(t);
    header[t.name] = {
        {"dtype", dtype_name(t.dtype)}, {"shape", t.shape}, {"data_offsets", {at, end}}};
    entries_.push_back({std::move(t), at});
    at = end;
  }
  std::string json = dump_json(header);
  json.append((8 - json.size() % 8) % 8, ' ');
  static_assert(std::endian::native == std::endian::little, "safetensors is little-endian");
  const uint64_t length = json.size();
  header_.assign(reinterpret_cast<const char*>(&length), 8);
  header_ += json;
  for (auto& entry : entries_) entry.begin += header_.size();
  file_bytes_ = header_.size() + at;
}

void write_safetensors(const std::filesystem::path& path, const std::vector<TensorInfo>& tensors,
                       std::span<const std::span<const std::byte>> data, const Metadata& metadata) {
  const SafetensorsLayout layout(tensors, metadata);
  std::unordered_map<std::string_view, size_t> place;
  for (size_t i = 0; i < tensors.size(); ++i) place.emplace(tensors[i].name, i);
  write_file_durably(path, [&](const File& file) {
    file.write_at(0, std::as_bytes(std::span(layout.header())));
    for (const auto& entry : layout.entries())
      file.write_at(entry.begin, data[place.at(entry.info.name)]);
  });
}

}  // namespace lewis
