#include "io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/error.h"
#include "base/json.h"
#include "base/text_file.h"

namespace lewis {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;

std::string read_header(const File& file, const std::filesystem::path& path, uint64_t size) {
  if (size < 8)
    throw input_error("{}: {} bytes, expected at least the 8 of the header's length", path.string(),
                      size);
  uint64_t length = 0;
  file.read_at(0, std::as_writable_bytes(std::span(&length, 1)));
  if (length > kMaxHeader) {
    throw input_error(
        "{}: the header claims {} bytes, at most {} are accepted: not a safetensors file?",
        path.string(), length, kMaxHeader);
  }
  if (length > size - 8) {
    throw input_error(
        "{}: the header claims {} bytes, the file has {} behind the length: truncated?",
        path.string(), length, size - 8);
  }
  std::string header(length, '\0');
  file.read_at(8, std::as_writable_bytes(std::span(header)));
  return header;
}

uint64_t natural(const Json& value, const std::string& where, std::string_view what) {
  if (!value.is_number_unsigned()) {
    throw input_error("{}: {} is {}, expected a non-negative integer", where, what, value.dump());
  }
  return value.get<uint64_t>();
}

// Bytes that dtype and shape ask for; refuses what does not fit in 63 bits.
uint64_t expected_bytes(const TensorInfo& info, const std::string& where) {
  uint64_t bytes = dtype_size(info.dtype);
  bool empty = false;
  for (const int64_t size : info.shape) {
    empty = empty || size == 0;
    if (size != 0 && __builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes))
      bytes = UINT64_MAX;
    if (bytes > INT64_MAX)
      throw input_error("{}: shape {} is too large", where, to_string(info.shape));
  }
  return empty ? 0 : bytes;
}

struct Parsed {
  SafetensorsFile::Entry entry;
  uint64_t end = 0;
};

Parsed parse_entry(const std::string& name, const Json& value, const std::filesystem::path& path) {
  const std::string where = fmt::format("{}: tensor {}", path.string(), name);
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") ||
      !value.contains("shape") || !value.contains("data_offsets")) {
    throw input_error("{}: expected exactly dtype, shape and data_offsets", where);
  }
  Parsed parsed;
  TensorInfo& info = parsed.entry.info;
  info.name = name;
  const auto dtype = value["dtype"].is_string() ? dtype_from_name(value["dtype"].get<std::string>())
                                                : std::nullopt;
  if (!dtype) throw input_error("{}: dtype {} is not known", where, value["dtype"].dump());
  info.dtype = *dtype;
  if (!value["shape"].is_array()) throw input_error("{}: shape is not a list", where);
  for (const Json& size : value["shape"]) {
    const uint64_t n = natural(size, where, "a size of the shape");
    if (n > INT64_MAX) throw input_error("{}: size {} is too large", where, n);
    info.shape.push_back(static_cast<int64_t>(n));
  }
  const Json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2)
    throw input_error("{}: data_offsets are not two numbers", where);
  parsed.entry.begin = natural(offsets[0], where, "data_offsets[0]");
  parsed.end = natural(offsets[1], where, "data_offsets[1]");
  const uint64_t expected = expected_bytes(info, where);
  if (parsed.end < parsed.entry.begin || parsed.end - parsed.entry.begin != expected) {
    throw input_error("{}: {} of {} needs {} bytes, data_offsets [{}, {}] hold something else",
                      where, to_string(info.shape), dtype_name(info.dtype), expected,
                      parsed.entry.begin, parsed.end);
  }
  return parsed;
}

// Tensors must follow each other without hole or overlap, up to the end of the file.
void check_tiling(std::vector<Parsed>& tensors, uint64_t data_bytes,
                  const std::filesystem::path& path) {
  std::sort(tensors.begin(), tensors.end(), [](const Parsed& a, const Parsed& b) {
    return std::pair(a.entry.begin, a.end) < std::pair(b.entry.begin, b.end);
  });
  uint64_t at = 0;
  for (const Parsed& t : tensors) {
    if (t.entry.begin != at) {
      throw input_error("{}: tensor {} begins at byte {} of the data, expected {}: {}",
                        path.string(), t.entry.info.name, t.entry.begin, at,
                        t.entry.begin < at ? "it overlaps another" : "there is a hole");
    }
    at = t.end;
  }
  if (at != data_bytes) {
    throw input_error("{}: the header describes {} bytes of data, the file has {}: {}",
                      path.string(), at, data_bytes,
                      data_bytes < at ? "truncated?" : "something was appended?");
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : path_(path), file_(File::open_read(path)) {
  const uint64_t size = file_.size();
  header_ = read_header(file_, path, size);
  const Json header = parse_json(header_, path.string() + ": header");
  if (!header.is_object()) throw input_error("{}: the header is not a JSON object", path.string());
  std::vector<Parsed> tensors;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      if (!value.is_object()) throw input_error("{}: __metadata__ is not an object", path.string());
      for (const auto& [key, text] : value.items()) {
        if (!text.is_string())
          throw input_error("{}: __metadata__.{} is not a string", path.string(), key);
        metadata_[key] = text.get<std::string>();
      }
    } else {
      tensors.push_back(parse_entry(name, value, path));
    }
  }
  const uint64_t data_begin = 8 + header_.size();
  check_tiling(tensors, size - data_begin, path);
  for (Parsed& t : tensors) {
    t.entry.begin += data_begin;
    entries_.push_back(std::move(t.entry));
  }
  std::sort(entries_.begin(), entries_.end(),
            [](const Entry& a, const Entry& b) { return a.info.name < b.info.name; });
}

const SafetensorsFile::Entry* SafetensorsFile::find(std::string_view name) const {
  const auto it =
      std::lower_bound(entries_.begin(), entries_.end(), name,
                       [](const Entry& e, std::string_view n) { return e.info.name < n; });
  return it != entries_.end() && it->info.name == name ? &*it : nullptr;
}

void SafetensorsFile::read(const Entry& entry, uint64_t offset, std::span<std::byte> out) const {
  try {
    file_.read_at(entry.begin + offset, out);
  } catch (const Error& e) {
    throw Error(e.code(), fmt::format("{} (tensor {})", e.what(), entry.info.name));
  }
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
  std::string json = header.dump(-1, ' ', false, Json::error_handler_t::replace);
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
  write_file_durably(path, [&](const File& file) {
    file.write_at(0, std::as_bytes(std::span(layout.header())));
    for (const auto& entry : layout.entries()) {
      const auto index = static_cast<size_t>(
          std::find_if(tensors.begin(), tensors.end(),
                       [&](const auto& t) { return t.name == entry.info.name; }) -
          tensors.begin());
      file.write_at(entry.begin, data[index]);
    }
  });
}

}  // namespace lewis
