// Merges a recipe into a folder: reads, merges and writes with bounded memory and all threads.
#pragma once

#include <lewis/merge_part.h>
#include <lewis/results.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "base/threads.h"
#include "merge/input_model.h"
#include "merge/public_names.h"
#include "recipe/recipe.h"

namespace lewis {

constexpr std::string_view kRunRecordName = "lewis_run.json";

struct MergeOptions {
  std::filesystem::path out;
  bool resume = false;           // continue with OUT.partial, or begin where there is none
  bool require_partial = false;  // with `resume`: Error(kUsage) where there is none
  bool force = false;            // replace an existing OUT
  uint64_t shard_bytes = 5'000'000'000;
  uint64_t seed = 0;              // seed of random masks
  bool no_tokenizer = false;      // do not copy tokenizer and chat template files
  uint64_t max_memory = 0;        // bytes; 0: no limit. Kept, or refused before any work
  ProgressFn progress;            // bytes read and written
  TokenizerBuilder tokenizers{};  // for recipes with tokenizer settings
  GgufOpener gguf{};              // for models that are GGUF files
  // Makes the text of OUT/lewis_run.json when all tensors are written. It describes the run and is
  // no part of the result (the manifest does not list it). Null: no such file is written.
  std::function<std::string(const MergeReport&)> run_record{};
  std::shared_ptr<const InputModel> refined{};  // see OpenOptions
  // Called with the folder of the result when all of it but its record and manifest is written and
  // nothing has OUT's name yet. What it throws ends the merge. Null: nothing is called.
  std::function<void(const std::filesystem::path&)> inspect{};
  ModelIds model_ids{};  // see PublicNames
  std::string job;       // a hash of all that was asked for; the manifest keeps it as about.job
  // A share of the shards beside other workers (io/part_writer.h); `finish` without a part: puts
  // the shares together.
  std::optional<MergePart> part{};
  bool finish = false;
};

// Refuses, before any work, an OUT that exists while `force` is not set, an OUT inside a source and
// a source inside OUT. merge() checks this as well; callers that work long before merging check
// first.
void check_merge_target(const Recipe& recipe, const MergeOptions& options);

// What is known of a merge before weights are read.
struct MergePreview {
  MergeCost cost;
  std::vector<std::string> notes;  // that merge() gives, one line each
  // Per model that is written, one or Recipe::outputs: a hash of all that decides its bytes,
  // refinement aside.
  std::vector<std::string> plans;
};
// Opens all models and checks all that merge() checks before it writes, except for OUT itself: the
// files beside the weights, too. Error(kResource) when options.max_memory cannot be kept.
MergePreview preview_merge(const Recipe& recipe, const MergeOptions& options,
                           const Threads& threads);

// A shard as it will be written, with the bytes that are read for it. Several outputs have the same
// shards, which are read for once: their bytes are summed.
struct ShardCost {
  std::string name;
  uint64_t bytes = 0, bytes_read = 0;
};
// All shards, by the headers of the models.
std::vector<ShardCost> shard_costs(const Recipe& recipe, const MergeOptions& options,
                                   const Threads& threads);

// Merges a recipe: opens and checks all models (same tensors, same shapes; Error(kInput) names the
// first that differs), writes OUT.partial and renames it to OUT. On any error nothing named OUT has
// changed and OUT.partial is removed. A worker that writes a part leaves what is finished in
// OUT.partial, unless all is finished: then it renames it.
MergeReport merge(const Recipe& recipe, const MergeOptions& options, Threads& threads);

// The folder of one of recipe.outputs in OUT.
std::filesystem::path folder_of_output(const std::filesystem::path& out, const Recipe& recipe,
                                       size_t output);

// One of recipe.outputs that is to be written; options.out is its own folder.
struct OutputJob {
  size_t output = 0;
  MergeOptions options;
};
// As merge(), for some of recipe.outputs (at least one) in one pass over the models: each is the
// model that merge() makes of its recipe (recipe/outputs.h), complete or not there. An error before
// the end leaves none of them, except those that were complete before. Returns their reports.
std::vector<MergeReport> merge_outputs(const Recipe& recipe, const std::vector<OutputJob>& jobs,
                                       Threads& threads);

}  // namespace lewis
