#include "calibrate/statistics.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/dump_json.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "io/safetensors.h"

namespace lewis {
namespace {

constexpr const char* kFormat = "lewis-statistics-2";
constexpr const char* kFormatWithoutHash = "lewis-statistics-1";
constexpr const char* kHash = "xxh3";  // in the metadata
constexpr std::string_view kSums = ".sum_squares", kTokens = ".expert_tokens", kIn = ".expert_in",
                           kMid = ".expert_mid", kMagnitudes = ".sum_magnitudes",
                           kChange = ".output_change";

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

std::vector<double> read_sums(const SafetensorsFile& file, const SafetensorsFile::Entry& entry,
                              size_t dimensions, const std::filesystem::path& path) {
  const TensorInfo& t = entry.info;
  if (t.dtype != DType::kF64 || t.shape.size() != dimensions) {
    throw input_error("{}: tensor {} is {} {}, expected F64 of {} dimension(s)", path.string(),
                      t.name, dtype_name(t.dtype), to_string(t.shape), dimensions);
  }
  std::vector<double> sums(static_cast<size_t>(element_count(t.shape)));
  file.read(entry, 0, std::as_writable_bytes(std::span(sums)));
  for (const double v : sums) {
    if (!(v >= 0 && v < 1e300))
      throw input_error("{}: tensor {} holds {}, expected a sum of squares", path.string(), t.name,
                        v);
  }
  return sums;
}

std::vector<int64_t> read_tokens(const SafetensorsFile& file, const SafetensorsFile::Entry& entry,
                                 const std::filesystem::path& path) {
  const TensorInfo& t = entry.info;
  std::vector<int64_t> tokens;
  if (t.dtype == DType::kI64 && t.shape.size() == 1) {
    tokens.resize(static_cast<size_t>(t.shape[0]));
    file.read(entry, 0, std::as_writable_bytes(std::span(tokens)));
  }
  for (const int64_t n : tokens) {
    if (n < 0) tokens.clear();
  }
  if (tokens.empty()) {
    throw input_error("{}: tensor {} is {} {}, expected counts, I64 [experts]", path.string(),
                      t.name, dtype_name(t.dtype), to_string(t.shape));
  }
  return tokens;
}

// Puts one tensor of the file where it belongs.
void read_entry(const SafetensorsFile& file, const SafetensorsFile::Entry& entry,
                const std::filesystem::path& path, Statistics& s) {
  const std::string& name = entry.info.name;
  const auto without = [&](std::string_view suffix) {
    return name.substr(0, name.size() - suffix.size());
  };
  if (name.ends_with(kSums)) {
    s.sum_squares[without(kSums)] = read_sums(file, entry, 1, path);
  } else if (name.ends_with(kTokens)) {
    s.experts[without(kTokens)].tokens = read_tokens(file, entry, path);
  } else if (name.ends_with(kIn)) {
    s.experts[without(kIn)].in = read_sums(file, entry, 2, path);
  } else if (name.ends_with(kMid)) {
    s.experts[without(kMid)].mid = read_sums(file, entry, 2, path);
  } else if (name.ends_with(kMagnitudes)) {
    s.sum_magnitudes[without(kMagnitudes)] = read_sums(file, entry, 1, path);
  } else if (name.ends_with(kChange)) {
    const auto sums = read_sums(file, entry, 1, path);
    if (sums.size() != 3 || sums[2] > 0x1p53)
      throw input_error("{}: tensor {} does not hold three sums", path.string(), name);
    s.output_changes[without(kChange)] = {sums[0], sums[1], static_cast<int64_t>(sums[2])};
  } else {
    throw input_error("{}: tensor {} is not known, expected X{}, X{}, X{} or X{}", path.string(),
                      name, kSums, kTokens, kIn, kMid);
  }
}

void check_experts(const Statistics& s, const std::filesystem::path& path) {
  for (const auto& [module, e] : s.experts) {
    const size_t n = e.tokens.size();
    if (n == 0 || e.in.empty() || e.mid.empty() || e.in.size() % n != 0 || e.mid.size() % n != 0) {
      throw input_error("{}: {}{}, {} and {} do not fit together", path.string(), module, kTokens,
                        kIn, kMid);
    }
  }
}

}  // namespace

std::string fused_to_text(const FusedParts& fused) {
  Json json = Json::object();
  for (const auto& [module, parts] : fused) {
    for (const FusedPart& part : parts) json[module].push_back({part.name, part.rows});
  }
  return json.dump();
}

FusedParts fused_from_text(const std::string& text, const std::string& file) {
  FusedParts fused;
  const Json json = parse_json(text, file);
  for (const auto& [module, parts] : json.items()) {
    for (const Json& part : parts) {
      if (!part.is_array() || part.size() != 2 || !part[0].is_string() ||
          !part[1].is_number_unsigned() || part[1].get<uint64_t>() > INT32_MAX) {
        throw input_error("{}: metadata 'fused' holds {}, expected [name, rows]", file,
                          part.dump());
      }
      fused[module].push_back({part[0].get<std::string>(), part[1].get<int64_t>()});
    }
  }
  return fused;
}

namespace {

std::vector<std::string> notes_from_text(const std::string& text, const std::string& file) {
  const Json json = parse_json(text, file);
  const auto is_text = [](const Json& line) { return line.is_string(); };
  if (!json.is_array() || !std::ranges::all_of(json, is_text))
    throw input_error("{}: metadata 'notes' is {}, expected a list of texts", file, text);
  return json.get<std::vector<std::string>>();
}

// Statistics as a file holds them. The data points into the statistics and into `changes`.
struct Contents {
  std::vector<TensorInfo> tensors;
  std::vector<std::span<const std::byte>> data;
  Metadata metadata;  // without the hash
  std::map<std::string, std::array<double, 3>> changes;

  void add(const std::string& name, DType dtype, Shape shape, const auto& values) {
    tensors.push_back({name, dtype, std::move(shape)});
    data.push_back(std::as_bytes(std::span(values)));
  }
  std::string hash() const;
};

// XXH3 over everything, each text with its length before it.
std::string Contents::hash() const {
  Xxh3 hash;
  const auto add_text = [&](const std::string& text) {
    const uint64_t length = text.size();
    hash.add(std::as_bytes(std::span(&length, 1))).add(std::as_bytes(std::span(text)));
  };
  for (const auto& [key, value] : metadata) {
    add_text(key);
    add_text(value);
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    add_text(fmt::format("{} {} {}", tensors[i].name, dtype_name(tensors[i].dtype),
                         to_string(tensors[i].shape)));
    hash.add(data[i]);
  }
  return hash_text(hash.value());
}

Contents contents_of(const Statistics& s) {
  Contents c;
  for (const auto& [module, sums] : s.sum_squares) {
    c.add(module + std::string(kSums), DType::kF64, {static_cast<int64_t>(sums.size())}, sums);
  }
  for (const auto& [module, e] : s.experts) {
    const auto n = static_cast<int64_t>(e.tokens.size());
    const auto in = static_cast<int64_t>(e.in.size()), mid = static_cast<int64_t>(e.mid.size());
    c.add(module + std::string(kTokens), DType::kI64, {n}, e.tokens);
    c.add(module + std::string(kIn), DType::kF64, {n, in / n}, e.in);
    c.add(module + std::string(kMid), DType::kF64, {n, mid / n}, e.mid);
  }
  for (const auto& [module, sums] : s.sum_magnitudes) {
    c.add(module + std::string(kMagnitudes), DType::kF64, {static_cast<int64_t>(sums.size())},
          sums);
  }
  for (const auto& [name, change] : s.output_changes) {
    const auto& sums =
        c.changes[name] = {change.changed, change.base, static_cast<double>(change.tokens)};
    c.add(name + std::string(kChange), DType::kF64, {3}, sums);
  }
  c.metadata = {s.origin.begin(), s.origin.end()};
  c.metadata["format"] = kFormat;
  c.metadata["tokens"] = std::to_string(s.tokens);
  c.metadata["sequences"] = std::to_string(s.sequences);
  c.metadata["protocol"] = name_of(s.protocol);
  if (!s.fused.empty()) c.metadata["fused"] = fused_to_text(s.fused);
  if (!s.notes.empty()) c.metadata["notes"] = dump_json(Json(s.notes));
  return c;
}

void check_format(const Metadata& metadata, const std::filesystem::path& path) {
  const auto found = metadata.find("format");
  const std::string format = found == metadata.end() ? "" : found->second;
  if (format == kFormatWithoutHash || format == kFormat) return;
  throw input_error("{}: not a statistics file: metadata 'format' is '{}', expected '{}'",
                    path.string(), format, kFormat);
}

}  // namespace

void write_statistics(const std::filesystem::path& file, const Statistics& s) {
  Contents c = contents_of(s);
  c.metadata[kHash] = c.hash();
  write_safetensors(file, c.tensors, c.data, c.metadata);
}

Statistics read_statistics(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  Metadata metadata = file.metadata();
  check_format(metadata, path);
  const bool has_hash = metadata["format"] == kFormat;
  const std::string hash = metadata[kHash];
  Statistics s;
  s.tokens = count(metadata, "tokens", path);
  s.sequences = count(metadata, "sequences", path);
  const auto protocol = find_value_of<Protocol>(metadata["protocol"]);
  if (!protocol) {
    throw input_error("{}: metadata 'protocol' is '{}', expected clean or reference", path.string(),
                      metadata["protocol"]);
  }
  s.protocol = *protocol;
  if (metadata.contains("fused")) s.fused = fused_from_text(metadata["fused"], path.string());
  if (metadata.contains("notes")) s.notes = notes_from_text(metadata["notes"], path.string());
  for (const auto& entry : file.entries()) read_entry(file, entry, path, s);
  check_experts(s, path);
  for (const char* own : {"format", "tokens", "sequences", "protocol", "fused", "notes", kHash}) {
    metadata.erase(own);
  }
  s.origin.insert(metadata.begin(), metadata.end());
  if (has_hash && contents_of(s).hash() != hash) {
    throw input_error("{}: damaged: its contents do not have the hash that it names ('{}')",
                      path.string(), hash);
  }
  return s;
}

}  // namespace lewis
