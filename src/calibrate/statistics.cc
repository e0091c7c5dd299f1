#include "calibrate/statistics.h"

#include <charconv>

#include "base/error.h"
#include "io/safetensors.h"

namespace lewis {
namespace {

constexpr const char* kFormat = "lewis-statistics-1";
constexpr std::string_view kSuffix = ".sum_squares";

uint64_t count(const Metadata& metadata, const char* key, const std::filesystem::path& file) {
  const auto it = metadata.find(key);
  uint64_t value = 0;
  const std::string text = it == metadata.end() ? "" : it->second;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || value == 0) {
    throw input_error("{}: metadata '{}' is '{}', expected a positive number", file.string(), key,
                      text);
  }
  return value;
}

}  // namespace

void write_statistics(const std::filesystem::path& file, const Statistics& s) {
  std::vector<TensorInfo> tensors;
  std::vector<std::span<const std::byte>> data;
  for (const auto& [module, sums] : s.sum_squares) {
    tensors.push_back(
        {module + std::string(kSuffix), DType::kF64, {static_cast<int64_t>(sums.size())}});
    data.push_back(std::as_bytes(std::span(sums)));
  }
  Metadata metadata(s.origin.begin(), s.origin.end());
  metadata["format"] = kFormat;
  metadata["tokens"] = std::to_string(s.tokens);
  metadata["sequences"] = std::to_string(s.sequences);
  metadata["protocol"] = s.protocol == Protocol::kClean ? "clean" : "reference";
  write_safetensors(file, tensors, data, metadata);
}

Statistics read_statistics(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  Metadata metadata = file.metadata();
  if (metadata["format"] != kFormat) {
    throw input_error("{}: not a statistics file: metadata 'format' is '{}', expected '{}'",
                      path.string(), metadata["format"], kFormat);
  }
  Statistics s;
  s.tokens = count(metadata, "tokens", path);
  s.sequences = count(metadata, "sequences", path);
  if (metadata["protocol"] != "clean" && metadata["protocol"] != "reference") {
    throw input_error("{}: metadata 'protocol' is '{}', expected clean or reference", path.string(),
                      metadata["protocol"]);
  }
  s.protocol = metadata["protocol"] == "clean" ? Protocol::kClean : Protocol::kReference;
  for (const auto& entry : file.entries()) {
    const TensorInfo& t = entry.info;
    if (!t.name.ends_with(kSuffix) || t.dtype != DType::kF64 || t.shape.size() != 1) {
      throw input_error("{}: tensor {} is {} {}, expected X{} of F64 [in_features]", path.string(),
                        t.name, dtype_name(t.dtype), to_string(t.shape), kSuffix);
    }
    std::vector<double> sums(static_cast<size_t>(t.shape[0]));
    file.read(entry, 0, std::as_writable_bytes(std::span(sums)));
    for (const double v : sums) {
      if (!(v >= 0 && v < 1e300))
        throw input_error("{}: tensor {} holds {}, expected a sum of squares", path.string(),
                          t.name, v);
    }
    s.sum_squares[t.name.substr(0, t.name.size() - kSuffix.size())] = std::move(sums);
  }
  for (const char* own : {"format", "tokens", "sequences", "protocol"}) metadata.erase(own);
  s.origin.insert(metadata.begin(), metadata.end());
  return s;
}

}  // namespace lewis
