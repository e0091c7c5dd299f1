// Options that several verbs of lewis.h share.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include <lewis/export.h>

namespace lewis {

// The type that the inputs and the weights of linear layers are rounded to before they are
// multiplied. Sums and everything else are float32.
enum class ComputeType { kF32, kBF16 };

// The type that this processor multiplies faster: bfloat16 only where it is faster by far. The
// processor's instructions decide it, so that a machine always chooses the same.
LEWIS_API ComputeType faster_compute_type();

// The folder of the statistics' cache: LEWIS_CACHE, else XDG_CACHE_HOME/lewis, else
// HOME/.cache/lewis.
LEWIS_API std::filesystem::path default_cache_folder();

// How models are run where calibration or evaluation asks for it.
struct GuidanceOptions {
  std::filesystem::path cache = default_cache_folder();  // empty: no cache is read or written
  ComputeType compute = ComputeType::kF32;
  uint64_t max_memory = 0;  // bytes; 0: no limit
};

// What every task of an evaluation takes from its caller.
struct TaskSettings {
  std::filesystem::path data;  // empty: the task's own, from data_folder or the hub's cache
  std::filesystem::path data_folder;
  std::string format;  // "": the task's own, or by the file's ending
  std::string prompt_field, answer_field;
  uint64_t limit = 0;                     // first items (perplexity: windows) only; 0: all
  std::optional<uint64_t> shots;          // examples before the question; unset: the task's own
  std::filesystem::path shots_data;       // where they come from, if not from the task's own data
  std::optional<int64_t> max_new_tokens;  // of generation; unset: the task's own
  double temperature = 0;                 // of generation; 0: the most likely token
  double top_p = 1;  // generation samples among the likeliest tokens of this probability together
  uint64_t seed = 0;
  // For the task perplexity, in tokens. Unset: the model's positions, at most 1,024; half the
  // window.
  std::optional<int64_t> window, stride;
};

}  // namespace lewis
