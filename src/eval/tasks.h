// What is measured on a model: answer loss, perplexity, gsm8k.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/progress.h"
#include "eval/intervals.h"
#include "model/transformer.h"
#include "text/dataset.h"
#include "text/tokenizer.h"

namespace lewis {

struct TaskOptions {
  std::string task;  // "loss", "perplexity", "gsm8k"
  std::filesystem::path data;
  std::string format;  // "" : the task's own, or by the file's ending
  std::string prompt_field, answer_field;
  const ChatTemplate* chat = nullptr;  // format chat only; not owned
  std::string label;                   // how tables name it; "" : task and file
  uint64_t limit = 0;                  // first items (perplexity: windows) only; 0: all
  uint64_t shots = 0;                  // gsm8k: examples before the question
  std::filesystem::path shots_data;    // where they come from
  int64_t max_new_tokens = 256;
  double temperature = 0, top_p = 1;  // of generation: see GenerateOptions
  uint64_t seed = 0;
  // perplexity, in tokens. Unset: the model's positions, at most 1,024; half the window.
  std::optional<int64_t> window, stride;
};

// One metric of one task on one model. `values` holds one number an item, in the items' order, so
// that two models can be compared item by item.
struct Metric {
  std::string name;  // "answer_loss", "exact_match,flexible-extract", ...
  bool higher_is_better = false;
  std::vector<double> values;
  Mean summary;
  // Set where the headline is not the mean of the values (perplexity: exp of the token mean).
  std::optional<double> headline;
};

struct TaskResult {
  std::string task, label, data;
  std::vector<Metric> metrics;
  Json samples;  // per item, for --log-samples
};

// Reads the data, runs the model, scores. tokenizer may be null for data of format ids. Throws
// Error(kUsage): an unknown task, a format that the task cannot use or that cannot be told from the
// file's ending, a window that does not fit the model; Error(kInput), with file and line: data that
// cannot be read, an item that is longer than the model's positions or has no answer.
TaskResult run_task(const TaskOptions& options, const Transformer& model,
                    const Tokenizer* tokenizer, const std::vector<int32_t>& stop_ids,
                    const ProgressFn& progress);

std::vector<std::string_view> task_names();

}  // namespace lewis
