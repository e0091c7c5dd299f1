#include "calibrate/cache.h"

#include <system_error>

#include "base/build.h"
#include "base/current_error.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"

namespace lewis {
namespace {

// The version of the sums, for people who get a file of another program: it changes whenever the
// same input gives other sums than before. The cache goes by the build.
constexpr const char* kVersion = "2";
constexpr const char* kProgram = "program";  // in the origin of cached files

std::map<std::string, std::string> cached_origin(const StatisticsKey& key) {
  std::map<std::string, std::string> origin = to_origin(key);
  origin[kProgram] = version_and_build();
  return origin;
}

// What cache_file() lists: the origin without where the files lie.
std::map<std::string, std::string> identity(std::map<std::string, std::string> origin) {
  origin.erase("model");
  origin.erase("data");
  return origin;
}

}  // namespace

std::string hash_sequences(std::span<const std::vector<int32_t>> sequences) {
  Sha256 hash;
  for (const std::vector<int32_t>& ids : sequences) {
    const uint64_t length = ids.size();  // so that [1][2] is not [1, 2]
    hash.add(std::as_bytes(std::span(&length, 1))).add(std::as_bytes(std::span(ids)));
  }
  return hash.hex();
}

std::map<std::string, std::string> to_origin(const StatisticsKey& key) {
  std::map<std::string, std::string> origin = {
      {"version", kVersion},
      {"model", key.model},
      {"model_hash", key.model_hash},
      {"tokenizer_hash", key.tokenizer_hash},
      {"data", key.data},
      {"data_hash", key.data_hash},
      {"data_format", key.format},
      {"prompt_field", key.prompt_field},
      {"answer_field", key.answer_field},
      {"samples", std::to_string(key.samples)},
      {"seed", std::to_string(key.seed)},
      {"max_tokens", std::to_string(key.max_tokens)},
      {"sequences_hash", key.sequences_hash},
      {"calibration_protocol", std::string(name_of(key.protocol))},
      {"skip_first_token", key.skip_first > 0 ? "true" : "false"},
      {"compute", std::string(compute_type_name(key.compute))}};
  // Only where they are measured.
  if (key.magnitudes) origin["magnitudes"] = "true";
  if (key.skip_first > 1) origin["skip_first"] = std::to_string(key.skip_first);
  if (!key.expert_hash.empty()) origin["expert_hash"] = key.expert_hash;
  if (!key.piece.empty()) origin["piece"] = key.piece;
  return origin;
}

std::filesystem::path cache_file(const std::filesystem::path& folder, const StatisticsKey& key) {
  // As JSON, so that no two different keys have the same text.
  const std::string text = dump_json(identity(cached_origin(key)));
  return folder / (sha256_hex(text).substr(0, 32) + ".safetensors");
}

std::optional<Statistics> load_statistics(const std::filesystem::path& file,
                                          const StatisticsKey& key) {
  if (!std::filesystem::exists(file)) return std::nullopt;
  try {
    Statistics found = read_statistics(file);
    if (identity(found.origin) != identity(cached_origin(key))) return std::nullopt;
    found.origin.erase(kProgram);
    return found;
  } catch (const Error&) {
    return std::nullopt;  // a damaged file is computed anew
  }
}

void store_statistics(const std::filesystem::path& file, const StatisticsKey& key,
                      Statistics statistics) {
  statistics.origin = cached_origin(key);
  write_statistics(file, statistics);
}

bool is_cached(const std::filesystem::path& folder, const StatisticsKey& key) {
  return !folder.empty() && load_statistics(cache_file(folder, key), key).has_value();
}

CachedStatistics cached_statistics(const std::filesystem::path& folder, const StatisticsKey& key,
                                   const std::function<Statistics()>& compute) {
  if (folder.empty()) {
    CachedStatistics result{compute(), {}, false};
    result.statistics.origin = to_origin(key);
    return result;
  }
  const std::filesystem::path file = cache_file(folder, key);
  if (auto found = load_statistics(file, key)) return {std::move(*found), file, true};
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw file_error(folder, "cannot be made", error);
  CachedStatistics result{compute(), file, false};
  store_statistics(file, key, result.statistics);
  result.statistics.origin = to_origin(key);
  return result;
}

}  // namespace lewis
