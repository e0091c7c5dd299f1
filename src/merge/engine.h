// Merges a recipe into a folder: reads, merges and writes with bounded memory and all threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "base/threads.h"
#include "merge/input_model.h"
#include "recipe/recipe.h"

namespace lewis {

// Accounts for every tensor of the output.
struct MergeReport {
  uint64_t merged = 0, copied = 0, refined = 0;  // numbers of tensors
  uint64_t resumed = 0;                          // tensors that an earlier run had finished
  uint64_t parameters = 0, bytes_read = 0, bytes_written = 0, shards = 0;
  std::vector<std::string> copied_tensors, refined_tensors, resumed_tensors;  // their names
  std::vector<std::string> warnings;                                          // one line each
};

constexpr std::string_view kRunRecordName = "lewis_run.json";

struct MergeOptions {
  std::filesystem::path out;
  bool resume = false;  // continue with OUT.partial
  bool force = false;   // replace an existing OUT
  uint64_t shard_bytes = 5'000'000'000;
  uint64_t seed = 0;              // seed of random masks
  bool no_tokenizer = false;      // do not copy tokenizer and chat template files
  uint64_t max_memory = 0;        // bytes; 0: no limit. Kept, or refused before any work
  ProgressFn progress;            // bytes read and written
  TokenizerBuilder tokenizers{};  // for recipes with tokenizer settings
  // Makes the text of OUT/lewis_run.json when all tensors are written. It describes the run and is
  // no part of the result (the manifest does not list it). Null: no such file is written.
  std::function<std::string(const MergeReport&)> run_record{};
  std::shared_ptr<const InputModel> refined{};  // see OpenOptions
};

// Refuses, before any work, an OUT that exists while `force` is not set, an OUT inside a source and
// a source inside OUT. merge() checks this as well; callers that work long before merging check
// first.
void check_merge_target(const Recipe& recipe, const MergeOptions& options);

// The cost of a merge, known before any weight is read.
struct MergeCost {
  uint64_t tensors = 0, parameters = 0, bytes_read = 0, bytes_written = 0, peak_memory = 0;
  uint64_t least_memory = 0;  // the smallest --max-memory that works
  int64_t vocabulary = 0;     // rows of the embeddings, where a tokenizer setting changes them
};
// `max_memory`: the limit of peak_memory, 0 for none; Error(kResource) when it cannot be kept.
MergeCost merge_cost(const Recipe& recipe, size_t threads, uint64_t max_memory = 0,
                     const TokenizerBuilder& tokenizers = {});

// Merges a recipe: opens and checks all models (same tensors, same shapes; Error(kInput) names the
// first that differs), writes OUT.partial and renames it to OUT. On any error nothing named OUT has
// changed and OUT.partial is removed.
MergeReport merge(const Recipe& recipe, const MergeOptions& options, Threads& threads);

}  // namespace lewis
