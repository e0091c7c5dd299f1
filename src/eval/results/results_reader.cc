// Reading results files: the harness's and our own.
#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/hash.h"
#include "base/text_file.h"
#include "eval/results/results.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// The newest results_*.json of a folder (names end in the date), else of the folders in it.
fs::path newest_results(const fs::path& folder) {
  const auto newest = [](const auto& entries) {
    fs::path best;
    std::string best_name;
    for (const auto& entry : entries) {
      const std::string name = entry.path().filename().string();
      if (!entry.is_regular_file() || !name.starts_with("results_") || !name.ends_with(".json"))
        continue;
      if (best.empty() || name > best_name) {
        best = entry.path();
        best_name = name;
      }
    }
    return best;
  };
  fs::path file = newest(fs::directory_iterator(folder));
  if (file.empty()) file = newest(fs::recursive_directory_iterator(folder));
  if (file.empty()) throw input_error("{}: holds no results_*.json", folder.string());
  return file;
}

struct ResultsFile {
  fs::path path;
  Json json;

  Error error(const std::string& problem) const {
    return input_error("{}: {}", path.string(), problem);
  }
  // A member that is an object, or an empty one where it is missing.
  Json object(const Json& parent, const std::string& key) const {
    if (!parent.is_object() || !parent.contains(key)) return Json::object();
    if (!parent[key].is_object())
      throw error(fmt::format("'{}' must be an object, found {}", key, parent[key].type_name()));
    return parent[key];
  }
  std::string text(const Json& parent, const std::string& key) const {
    if (!parent.is_object() || !parent.contains(key) || parent[key].is_null()) return "";
    return parent[key].is_string() ? parent[key].get<std::string>() : parent[key].dump();
  }
};

// "exact_match,strict-match" -> the two; "" for a key that is no metric's.
MetricInfo metric_of_key(const std::string& key) {
  const size_t comma = key.rfind(',');
  MetricInfo info;
  if (comma == std::string::npos) return info;
  info.name = key.substr(0, comma);
  info.filter = key.substr(comma + 1);
  return info;
}

MetricInfo::Kind kind_of(const std::string& kind) {
  if (kind == "share") return MetricInfo::Kind::kShare;
  if (kind == "exp_mean") return MetricInfo::Kind::kExpMean;
  return MetricInfo::Kind::kMean;
}

// Metrics of the harness that are shares of right answers.
bool is_accuracy(const MetricResults& m) {
  const std::string& name = m.info.name;
  const bool known = name == "exact_match" || name == "acc" || name.starts_with("acc_") ||
                     name.ends_with("_acc") || name.starts_with("pass");
  return known && m.value >= 0 && m.value <= 1;
}

std::vector<MetricResults> read_metrics(const ResultsFile& file, const std::string& task,
                                        const Json& scores) {
  if (!scores.is_object()) throw file.error(fmt::format("results.{} must be an object", task));
  const Json better = file.object(file.object(file.json, "higher_is_better"), task);
  const Json own = file.object(
      file.object(file.object(file.object(file.json, "lewis"), "tasks"), task), "metrics");
  std::vector<MetricResults> metrics;
  for (const auto& [key, value] : scores.items()) {
    MetricResults m;
    m.info = metric_of_key(key);
    if (m.info.name.empty() || m.info.name.ends_with("_stderr")) continue;
    if (value.is_null() || value == "N/A") continue;
    if (!value.is_number()) {
      throw file.error(fmt::format("results.{}.\"{}\" must be a number, found {}", task, key,
                                   value.type_name()));
    }
    m.value = value;
    const auto error = scores.find(m.info.name + "_stderr," + m.info.filter);
    if (error != scores.end() && error->is_number()) m.standard_error = error->get<double>();
    const auto up = better.find(m.info.name);
    m.info.higher_is_better = up == better.end() || !up->is_boolean() || up->get<bool>();
    m.info.kind = is_accuracy(m) ? MetricInfo::Kind::kShare : MetricInfo::Kind::kMean;
    if (own.contains(key)) m.info.kind = kind_of(file.text(own[key], "kind"));
    metrics.push_back(std::move(m));
  }
  return metrics;
}

// A score as samples have it: a number, a truth value, or a list of them (one per instruction).
std::optional<ItemScore> read_score(const Json& value) {
  if (value.is_boolean()) return ItemScore{value.get<bool>() ? 1.0 : 0.0};
  if (value.is_number() && std::isfinite(value.get<double>()))
    return ItemScore{value.get<double>()};
  if (!value.is_array() || value.empty()) return {};
  double sum = 0;
  for (const Json& part : value) {
    const auto score = part.is_array() ? std::nullopt : read_score(part);
    if (!score) return {};
    sum += score->value;
  }
  return ItemScore{sum / static_cast<double>(value.size()), static_cast<double>(value.size())};
}

struct Sample {
  ItemKey key;
  Json values;
};
using Samples = std::map<std::string, std::map<int64_t, Sample>>;  // filter -> item -> sample

Samples read_samples(const fs::path& path) {
  Samples samples;
  const std::string text = read_text_file(path);
  size_t number = 0;
  for (const std::string_view line : split_lines(text)) {
    const std::string where = fmt::format("{}:{}", path.string(), ++number);
    if (line.empty()) continue;
    Json json = parse_json(line, where);
    if (!json.is_object() || !json.contains("doc_id") || !json["doc_id"].is_number_integer())
      throw input_error("{}: a sample must be an object with a whole number 'doc_id'", where);
    const auto hash = [&](const char* name) {
      return json.contains(name) && json[name].is_string()
                 ? json[name].get<std::string>().substr(0, 16)
                 : std::string();
    };
    const int64_t item = json["doc_id"];
    const std::string filter = json.contains("filter") && json["filter"].is_string()
                                   ? json["filter"].get<std::string>()
                                   : "none";
    ItemKey key{hash("doc_hash"), hash("prompt_hash")};
    if (key.doc.empty()) key.doc = fmt::format("doc {}", item);
    if (!samples[filter].emplace(item, Sample{std::move(key), std::move(json)}).second)
      throw input_error("{}: item {} is there twice for the filter '{}'", where, item, filter);
  }
  return samples;
}

// True if the value is the mean of the scores: a metric that the harness aggregates in another way
// has no mean to compare.
bool explain_value(const MetricResults& m) {
  if (m.scores.empty()) return false;
  const double mean = mean_of(m.scores).mean;
  const double value = m.info.kind == MetricInfo::Kind::kExpMean ? std::exp(mean) : mean;
  return std::abs(value - m.value) <= 1e-6 * std::max(1.0, std::abs(m.value));
}

void take_samples(const Samples& samples, TaskResults& task) {
  if (samples.empty()) return;
  const auto& first = samples.begin()->second;
  for (const auto& [item, sample] : first) task.keys.push_back(sample.key);
  for (MetricResults& m : task.metrics) {
    const auto of_filter = samples.find(m.info.filter);
    if (of_filter == samples.end() || of_filter->second.size() != first.size()) continue;
    for (const auto& [item, sample] : of_filter->second) {
      const auto value = sample.values.find(m.info.name);
      const auto score = value == sample.values.end() ? std::nullopt : read_score(*value);
      if (!score || !first.contains(item)) break;
      m.scores.push_back(*score);
    }
    if (m.scores.size() != first.size() || !explain_value(m)) m.scores.clear();
  }
}

// The items that lewis keeps in the results file itself.
void take_own_items(const ResultsFile& file, const Json& items, TaskResults& task) {
  const Json docs = items.value("doc_hash", Json::array());
  const Json prompts = items.value("prompt_hash", Json::array());
  const Json values = file.object(items, "values"), weights = file.object(items, "weights");
  const auto broken = [&](const std::string& what) {
    return file.error(fmt::format("lewis.tasks.{}.items: {}", task.name, what));
  };
  if (!docs.is_array() || !prompts.is_array() || docs.size() != prompts.size())
    throw broken("'doc_hash' and 'prompt_hash' must be lists of one length");
  for (size_t i = 0; i < docs.size(); ++i) {
    if (!docs[i].is_string() || !prompts[i].is_string()) throw broken("a hash must be a text");
    task.keys.push_back({docs[i], prompts[i]});
  }
  for (MetricResults& m : task.metrics) {
    const std::string key = m.info.key();
    if (!values.contains(key)) continue;
    const Json& list = values[key];
    const Json weight = weights.value(key, Json());
    if (!list.is_array() || list.size() != docs.size() ||
        (weight.is_array() && weight.size() != docs.size()))
      throw broken(
          fmt::format("'{}' must have a value for each of the {} items", key, docs.size()));
    for (size_t i = 0; i < list.size(); ++i) {
      if (!list[i].is_number() || (weight.is_array() && !weight[i].is_number()))
        throw broken(fmt::format("'{}' holds something that is no number", key));
      m.scores.push_back({list[i], weight.is_array() ? weight[i].get<double>() : 1.0});
    }
    if (!explain_value(m)) throw broken(fmt::format("the mean of '{}' is not its result", key));
  }
}

TaskResults read_task(const ResultsFile& file, const std::string& name, const Json& scores) {
  TaskResults task;
  task.name = name;
  task.label = file.text(scores, "alias");
  if (task.label.empty()) task.label = name;
  task.metrics = read_metrics(file, name, scores);
  task.version = file.object(file.json, "versions").value(name, Json());
  task.config = file.object(file.object(file.json, "configs"), name);
  const Json shots = file.object(file.json, "n-shot").value(name, Json());
  if (shots.is_number_integer()) task.shots = shots.get<int64_t>();
  task.hash = file.text(file.object(file.json, "task_hashes"), name);
  const Json own = file.object(
      file.object(file.object(file.object(file.json, "lewis"), "tasks"), name), "items");
  if (!own.empty()) {
    take_own_items(file, own, task);
  } else {
    const std::string stem = file.path.stem().string();  // results_DATE
    const fs::path samples = file.path.parent_path() / fmt::format("samples_{}_{}.jsonl", name,
                                                                   stem.substr(stem.find('_') + 1));
    if (stem.starts_with("results_") && fs::is_regular_file(samples))
      take_samples(read_samples(samples), task);
  }
  const Json count =
      file.object(file.object(file.json, "n-samples"), name).value("effective", Json());
  task.items = !task.keys.empty()           ? task.keys.size()
               : count.is_number_unsigned() ? count.get<size_t>()
                                            : 0;
  return task;
}

}  // namespace

ModelResults read_results(const fs::path& path) {
  ResultsFile file;
  file.path = fs::is_directory(path) ? newest_results(path) : path;
  file.json = read_json(file.path);
  if (!file.json.is_object() || !file.json.contains("results"))
    throw file.error("no results of lm-evaluation-harness or lewis: the key 'results' is missing");
  const Json results = file.object(file.json, "results"), own = file.object(file.json, "lewis");
  ModelResults model;
  model.model = file.text(file.json, "model_name");
  model.name = file.text(own, "name");
  if (model.name.empty()) model.name = fs::path(model.model).filename().string();
  if (model.name.empty()) model.name = file.path.stem().string();
  model.program = file.text(own, "program");
  if (model.program.empty()) {
    const std::string version = file.text(file.json, "lm_eval_version");
    model.program = version.empty() ? "lm_eval" : "lm_eval " + version;
  }
  model.compute = file.text(own, "compute");
  model.fingerprint = file.text(own, "fingerprint");
  model.baseline = file.text(own, "baseline");
  const Json date = file.json.value("date", Json());
  if (date.is_number()) model.date = date;
  for (const auto& [name, scores] : results.items())
    model.tasks.push_back(read_task(file, name, scores));
  std::erase_if(model.tasks, [](const TaskResults& t) { return t.metrics.empty(); });
  if (model.tasks.empty()) {
    throw file.error(
        "no task has a metric named NAME,FILTER, as lm-evaluation-harness 0.4 has them");
  }
  return model;
}

}  // namespace lewis
