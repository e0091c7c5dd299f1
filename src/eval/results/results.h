// Results of evaluations as files, in the shape of lm-evaluation-harness (0.4): read, written,
// compared. Where lewis says more than the harness does, it stands under the key "lewis".
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "eval/scores/comparison.h"
#include "eval/scores/metric.h"
#include "eval/tasks.h"

namespace lewis {

struct MetricResults {
  MetricInfo info;
  double value = 0;                      // as it is shown: exp of the mean where the kind says so
  std::optional<double> standard_error;  // of the value
  std::vector<ItemScore> scores;         // in the order of the task's items; empty: not known
  std::optional<Comparison> comparison;  // with the baseline
};

// Tells the same item in another file: SHA-256 as the harness takes them (of the document as
// Python's json.dumps(indent=2) writes it, of the prompt), the first 16 hexadecimal digits.
struct ItemKey {
  std::string doc, prompt;
  bool operator==(const ItemKey&) const = default;
};

struct TaskResults {
  std::string name, label;
  Json version;  // a number or a text
  Json config = Json::object();
  std::optional<int64_t> shots;
  size_t items = 0;
  std::vector<ItemKey> keys;  // of the items; empty: not known
  std::vector<MetricResults> metrics;
  std::string hash;  // over documents, prompts and targets of all items
};

struct ModelResults {
  std::string name;         // in tables
  std::string model;        // as the command named it
  std::string fingerprint;  // of the weights; "" in the harness's files
  std::string program;      // "lewis 0.1.0 (build ...)", "lm_eval 0.4.13"
  std::string compute;      // "f32"
  double date = 0;          // seconds since 1970
  double seconds = 0;       // that the evaluation took
  std::string baseline;     // what the comparisons are with; "": none
  std::vector<TaskResults> tasks;
};

// The results of a task on a model.
TaskResults summarize(const PreparedTask& task, const std::vector<ItemResult>& results);

// Compares all models with the one at `baseline`, metric by metric, on the items that both have
// (same document, as often as both have it), and corrects for all comparisons together. A metric
// that repeats the one before it for every item of every model is compared, but counted once.
void compare_models(std::vector<ModelResults>& models, size_t baseline);

// Items of b that were asked with another prompt than the same document in a.
size_t other_prompts(const TaskResults& a, const TaskResults& b);

// The file's content: results, configs, versions, n-shot, n-samples, higher_is_better, ...
Json results_json(const ModelResults& results);
// One JSON line for each item and filter.
std::string samples_lines(const PreparedTask& task, const std::vector<ItemResult>& results);

// "demo__models__math": what the harness makes of a model's name for a folder.
std::string sanitized_name(const std::string& model);
// "2026-01-31T23-59-59.000001": what stands in the names of its files (local time).
std::string date_id(double seconds_since_1970);

// Reads results_*.json of the harness or of lewis, or in a folder the newest one in it (below it,
// where it holds none itself), and items from samples_TASK_*.jsonl beside it where they are.
// Unknown keys are passed over. Throws Error(kInput) that names file and key: no JSON, no results,
// a metric that is no number, samples that contradict each other.
ModelResults read_results(const std::filesystem::path& path);

}  // namespace lewis
