// The cache of statistics: one file per (model, data, protocol), named by a hash of those, so that
// changing gamma or the merge method costs no calibration.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "calibrate/statistics.h"
#include "compute/backend.h"

namespace lewis {

// Everything that the statistics of one model depend on. Hashes are hexadecimal digits.
struct StatisticsKey {
  std::string model;           // the folder: for people, not part of the identity
  std::string model_hash;      // Checkpoint::fingerprint
  std::string tokenizer_hash;  // of tokenizer.json and its config; "" for ids
  std::string data;            // the file: for people, not part of the identity
  std::string data_hash;       // of the file's bytes
  std::string format, prompt_field, answer_field;
  uint64_t samples = 0, seed = 0, max_tokens = 0;
  std::string sequences_hash;  // hash_sequences of what is fed: chat template, padding and all
  Protocol protocol = Protocol::kClean;
  bool skip_first_token = false;
  ComputeType compute = ComputeType::kF32;
  bool magnitudes = false;  // sums of |x| as well
  std::string expert_hash;  // of output changes: the other model; "" for sums of one model
};

// SHA-256 of token sequences.
std::string hash_sequences(std::span<const std::vector<int32_t>> sequences);

// The key as Statistics::origin holds it: one entry a member, and the version of the computation.
std::map<std::string, std::string> to_origin(const StatisticsKey& key);

// FOLDER/<hash of the identity>.safetensors
std::filesystem::path cache_file(const std::filesystem::path& folder, const StatisticsKey& key);

struct CachedStatistics {
  Statistics statistics;
  std::filesystem::path file;
  bool reused = false;
};

// The statistics of the cache if the file is there and of the same origin; else those that
// `compute` returns, with the origin set and written to the file. A damaged file is computed anew.
// The folder is made first: Error(kResource) names it when that fails, before any work. An empty
// folder means: neither look nor keep.
CachedStatistics cached_statistics(const std::filesystem::path& folder, const StatisticsKey& key,
                                   const std::function<Statistics()>& compute);

// True when the cache holds these statistics, so that nothing would be computed.
bool is_cached(const std::filesystem::path& folder, const StatisticsKey& key);

}  // namespace lewis
