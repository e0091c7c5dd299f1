// The cache of statistics: one file per model and calibration set, so that another gamma or another
// merge method costs no calibration. cache_file() says what makes an entry stale.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "calibrate/statistics.h"
#include "compute/backend.h"

namespace lewis {

// Everything that the statistics of one model depend on, except for the program. Hashes are
// hexadecimal digits.
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
  uint64_t skip_first = 0;
  ComputeType compute = ComputeType::kF32;
  bool magnitudes = false;  // sums of |x| as well
  std::string expert_hash;  // of output changes: the other model; "" for sums of one model
  std::string piece;        // "3/32": of a piece of the sequences (calibrate/pieces.h); "": of all
};

// SHA-256 of token sequences.
std::string hash_sequences(std::span<const std::vector<int32_t>> sequences);

// The key as Statistics::origin holds it: one entry per member, and the version of the computation.
std::map<std::string, std::string> to_origin(const StatisticsKey& key);

// The file of an entry, FOLDER/HASH.safetensors. HASH is the first 32 digits of the SHA-256 of
// everything that makes an entry stale, and of nothing else:
//
// - the program: version and build (base/build.h), since another build may compute other sums;
// - the model's weights and config.json (model_hash) and its tokenizer (tokenizer_hash);
// - the data file's bytes and how they are read: format, prompt field, answer field;
// - which samples are drawn: their number, the seed, the longest sequence;
// - the token sequences that follow (sequences_hash), with the chat template and the padding;
// - how they are run: protocol, skip_first, compute type;
// - what is measured: sums of squares, of magnitudes too, or the output change against another
//   model (expert_hash).
//
// Where the model and the data lie makes no difference. An entry also holds all of this, so a file
// under a wrong name, or a damaged one, is computed anew. Stale entries are never read again; they
// may be deleted at any time.
std::filesystem::path cache_file(const std::filesystem::path& folder, const StatisticsKey& key);

struct CachedStatistics {
  Statistics statistics;
  std::filesystem::path file;
  bool reused = false;
};

// The statistics in a file, if they are those of the key; nothing where it is missing or damaged.
std::optional<Statistics> load_statistics(const std::filesystem::path& file,
                                          const StatisticsKey& key);
// Writes a file that load_statistics() reads, durably. `file` is no name that others use, too.
void store_statistics(const std::filesystem::path& file, const StatisticsKey& key,
                      Statistics statistics);

// The statistics of the cache if it has them; else those that `compute` returns, which are then
// written to the cache. `origin` is set in both cases. The folder is made before any work:
// Error(kResource) names it when that fails. With an empty folder nothing is looked up or kept.
CachedStatistics cached_statistics(const std::filesystem::path& folder, const StatisticsKey& key,
                                   const std::function<Statistics()>& compute);

// True when the cache holds these statistics, so that nothing would be computed.
bool is_cached(const std::filesystem::path& folder, const StatisticsKey& key);

}  // namespace lewis
