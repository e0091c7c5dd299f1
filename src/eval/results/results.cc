#include "eval/results/results.h"

#include <fmt/chrono.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/dump_json.h"
#include "base/hash.h"

namespace lewis {
namespace {

std::string doc_hash(const TaskItem& item) { return sha256_hex(dump_json(item.doc, 2)); }

std::vector<std::string> filters_of(const PreparedTask& task) {
  std::vector<std::string> filters;
  for (const MetricInfo& metric : task.metrics) {
    if (std::ranges::find(filters, metric.filter) == filters.end())
      filters.push_back(metric.filter);
  }
  return filters;
}

// The hash of a task as the harness takes it: over each item once per filter.
std::string task_hash(const PreparedTask& task) {
  std::string once;
  for (const TaskItem& item : task.items)
    once += doc_hash(item) + sha256_hex(item.prompt) + sha256_hex(item.target);
  Sha256 hash;
  for (size_t i = 0; i < filters_of(task).size(); ++i) hash.add(once);
  return hash.hex();
}

Json config_of(const PreparedTask& task) {
  const bool generates = task.settings.contains("until");
  Json settings = task.settings;
  settings.erase("num_fewshot");
  return {{"task", task.name},
          {"dataset_path", task.options.data.string()},
          {"output_type", generates ? "generate_until" : "loglikelihood"},
          {"num_fewshot", task.settings.value("num_fewshot", int64_t{0})},
          {generates ? "generation_kwargs" : "settings", std::move(settings)},
          {"metadata", {{"version", task.version}}}};
}

MetricResults summarize(const MetricInfo& info, std::vector<ItemScore> scores) {
  MetricResults result;
  result.info = info;
  const Mean mean = mean_of(scores);
  result.value = mean.mean;
  result.standard_error = mean.standard_error;
  if (info.kind == MetricInfo::Kind::kExpMean) {
    result.value = std::exp(mean.mean);
    result.standard_error = mean.standard_error * result.value;  // by the delta method
  }
  result.scores = std::move(scores);
  return result;
}

// Pairs (item of a, item of b) with the same document, in a's order.
std::vector<std::pair<size_t, size_t>> common_items(const TaskResults& a, const TaskResults& b) {
  std::map<std::string_view, std::vector<size_t>> places;  // of a document in b, the last first
  for (size_t i = b.keys.size(); i-- > 0;) places[b.keys[i].doc].push_back(i);
  std::vector<std::pair<size_t, size_t>> pairs;
  for (size_t i = 0; i < a.keys.size(); ++i) {
    const auto found = places.find(a.keys[i].doc);
    if (found == places.end() || found->second.empty()) continue;
    pairs.emplace_back(i, found->second.back());
    found->second.pop_back();
  }
  return pairs;
}

const MetricResults* find_metric(const ModelResults& model, const std::string& task,
                                 const std::string& key, const TaskResults** found_task) {
  for (const TaskResults& t : model.tasks) {
    if (t.name != task) continue;
    for (const MetricResults& m : t.metrics) {
      if (m.info.key() != key) continue;
      *found_task = &t;
      return &m;
    }
  }
  return nullptr;
}

std::optional<Comparison> compare_metric(const TaskResults& base_task, const MetricResults& base,
                                         const TaskResults& task, const MetricResults& metric) {
  if (base.scores.empty() || metric.scores.empty()) return {};
  std::vector<ItemScore> a, b;
  for (const auto& [i, j] : common_items(base_task, task)) {
    if (base.scores[i].weight != metric.scores[j].weight) return {};
    a.push_back(base.scores[i]);
    b.push_back(metric.scores[j]);
  }
  if (a.empty()) return {};
  return compare(metric.info, a, b);
}

// True if metric m of the task equals the metric before it, wherever both are.
bool repeats_the_one_before(const std::vector<ModelResults>& models, const TaskResults& task,
                            size_t m) {
  if (m == 0) return false;
  return std::ranges::all_of(models, [&](const ModelResults& model) {
    const TaskResults* ignored = nullptr;
    const auto* here = find_metric(model, task.name, task.metrics[m].info.key(), &ignored);
    const auto* before = find_metric(model, task.name, task.metrics[m - 1].info.key(), &ignored);
    return !here || (before && !here->scores.empty() && here->scores == before->scores);
  });
}

Json comparison_json(const Comparison& c) {
  const PairedDifference& d = c.difference;
  return {{"difference", d.difference},
          {"stderr", d.standard_error},
          {"low", d.low},
          {"high", d.high},
          {"items", d.items},
          {"test", c.mcnemar ? "mcnemar" : "bootstrap"},
          {"p", c.p},
          {"p_holm", c.p_corrected},
          {"shown", c.shown()},
          {"detectable_difference", c.detectable}};
}

const char* kind_name(MetricInfo::Kind kind) {
  switch (kind) {
    case MetricInfo::Kind::kShare:
      return "share";
    case MetricInfo::Kind::kExpMean:
      return "exp_mean";
    case MetricInfo::Kind::kMean:
      return "mean";
  }
  return "";
}

// Scores of all items, which the harness has in its samples only.
Json items_json(const TaskResults& task) {
  Json docs = Json::array(), prompts = Json::array(), values = Json::object();
  Json weights = Json::object();
  for (const ItemKey& key : task.keys) {
    docs.push_back(key.doc);
    prompts.push_back(key.prompt);
  }
  for (const MetricResults& metric : task.metrics) {
    Json value = Json::array(), weight = Json::array();
    for (const ItemScore& s : metric.scores) {
      value.push_back(s.value);
      weight.push_back(s.weight);
    }
    values[metric.info.key()] = std::move(value);
    const bool equal = std::ranges::all_of(metric.scores, [](auto& s) { return s.weight == 1; });
    if (!equal) weights[metric.info.key()] = std::move(weight);
  }
  Json items = {{"doc_hash", docs}, {"prompt_hash", prompts}, {"values", values}};
  if (!weights.empty()) items["weights"] = weights;
  return items;
}

Json lewis_json(const ModelResults& results) {
  Json tasks = Json::object();
  for (const TaskResults& task : results.tasks) {
    Json metrics = Json::object();
    for (const MetricResults& m : task.metrics) {
      Json metric = {{"kind", kind_name(m.info.kind)}};
      if (m.comparison) metric["against_baseline"] = comparison_json(*m.comparison);
      metrics[m.info.key()] = std::move(metric);
    }
    tasks[task.name] = {{"metrics", metrics}};
    if (!task.keys.empty()) tasks[task.name]["items"] = items_json(task);
  }
  Json json = {{"program", results.program},
               {"compute", results.compute},
               {"fingerprint", results.fingerprint},
               {"name", results.name}};
  json["baseline"] = results.baseline.empty() ? Json() : Json(results.baseline);
  json["tasks"] = std::move(tasks);
  return json;
}

Json sample_json(const PreparedTask& task, const ItemResult& result, size_t index,
                 const std::string& filter) {
  const TaskItem& item = task.items[index];
  const bool generates = task.settings.contains("until");
  const std::string response =
      result.response.is_string() ? result.response.get<std::string>() : result.response.dump();
  std::string filtered = response;
  Json names = Json::array(), values = Json::object(), weights = Json::object();
  for (size_t m = 0; m < task.metrics.size(); ++m) {
    if (task.metrics[m].filter != filter) continue;
    names.push_back(task.metrics[m].name);
    values[task.metrics[m].name] = result.scores[m].value;
    if (result.scores[m].weight != 1) weights[task.metrics[m].name] = result.scores[m].weight;
    if (m < result.filtered.size()) filtered = result.filtered[m];
  }
  Json sample = {
      {"doc_id", index},
      {"doc", item.doc},
      {"target", item.target},
      {"arguments",
       {{"gen_args_0",
         {{"arg_0", item.prompt},
          {"arg_1", generates ? config_of(task)["generation_kwargs"] : Json(item.target)}}}}},
      {"resps", Json::array({Json::array({response})})},
      {"filtered_resps", Json::array({filtered})},
      {"filter", filter},
      {"metrics", names},
      {"doc_hash", doc_hash(item)},
      {"prompt_hash", sha256_hex(item.prompt)},
      {"target_hash", sha256_hex(item.target)}};
  sample.update(values);
  sample["lewis"] = {{"where", item.where}, {"details", result.details}};
  if (!weights.empty()) sample["lewis"]["weights"] = weights;
  return sample;
}

}  // namespace

TaskResults summarize(const PreparedTask& task, const std::vector<ItemResult>& results) {
  TaskResults summary;
  summary.name = task.name;
  summary.label = task.options.label;
  summary.version = task.version;
  summary.config = config_of(task);
  summary.shots = summary.config["num_fewshot"].get<int64_t>();
  summary.items = results.size();
  summary.hash = task_hash(task);
  for (const TaskItem& item : task.items)
    summary.keys.push_back({doc_hash(item).substr(0, 16), sha256_hex(item.prompt).substr(0, 16)});
  for (size_t m = 0; m < task.metrics.size(); ++m)
    summary.metrics.push_back(summarize(task.metrics[m], scores_of(results, m)));
  return summary;
}

void compare_models(std::vector<ModelResults>& models, size_t baseline) {
  std::vector<Comparison*> counted;
  std::vector<std::pair<Comparison*, const Comparison*>> repeated;
  for (size_t i = 0; i < models.size(); ++i) {
    models[i].baseline = models[baseline].name;
    if (i == baseline) continue;
    for (TaskResults& task : models[i].tasks) {
      for (size_t m = 0; m < task.metrics.size(); ++m) {
        MetricResults& metric = task.metrics[m];
        const TaskResults* base_task = nullptr;
        const MetricResults* base =
            find_metric(models[baseline], task.name, metric.info.key(), &base_task);
        if (base) metric.comparison = compare_metric(*base_task, *base, task, metric);
        if (!metric.comparison) continue;
        if (repeats_the_one_before(models, task, m) && task.metrics[m - 1].comparison) {
          repeated.emplace_back(&*metric.comparison, &*task.metrics[m - 1].comparison);
        } else {
          counted.push_back(&*metric.comparison);
        }
      }
    }
  }
  correct(counted);
  for (const auto& [again, first] : repeated) again->p_corrected = first->p_corrected;
}

size_t other_prompts(const TaskResults& a, const TaskResults& b) {
  const auto pairs = common_items(a, b);
  return static_cast<size_t>(std::ranges::count_if(
      pairs, [&](const auto& p) { return a.keys[p.first].prompt != b.keys[p.second].prompt; }));
}

Json results_json(const ModelResults& results) {
  Json json = {{"results", Json::object()}, {"group_subtasks", Json::object()}};
  Json configs = Json::object(), versions = configs, shots = configs, better = configs;
  Json samples = configs, hashes = configs;
  for (const TaskResults& task : results.tasks) {
    Json& scores = json["results"][task.name];
    scores = {{"name", task.name}, {"alias", task.label}, {"sample_len", task.items}};
    for (const MetricResults& m : task.metrics) {
      scores[m.info.key()] = m.value;
      scores[m.info.name + "_stderr," + m.info.filter] =
          m.standard_error ? Json(*m.standard_error) : Json("N/A");
      better[task.name][m.info.name] = m.info.higher_is_better;
    }
    configs[task.name] = task.config;
    versions[task.name] = task.version;
    shots[task.name] = task.shots ? Json(*task.shots) : Json();
    samples[task.name] = {{"effective", task.items}};
    hashes[task.name] = task.hash;
  }
  json["configs"] = configs;
  json["versions"] = versions;
  json["n-shot"] = shots;
  json["higher_is_better"] = better;
  json["n-samples"] = samples;
  json["config"] = {{"model", "lewis"},
                    {"model_args", {{"pretrained", results.model}, {"compute", results.compute}}}};
  json["task_hashes"] = hashes;
  json["model_source"] = "lewis";
  json["model_name"] = results.model;
  json["model_name_sanitized"] = sanitized_name(results.model);
  json["lewis"] = lewis_json(results);
  json["date"] = results.date;
  json["total_evaluation_time_seconds"] = fmt::format("{:.3f}", results.seconds);
  return json;
}

std::string samples_lines(const PreparedTask& task, const std::vector<ItemResult>& results) {
  std::string lines;
  for (const std::string& filter : filters_of(task)) {
    for (size_t i = 0; i < results.size(); ++i)
      lines += dump_json(sample_json(task, results[i], i, filter)) + "\n";
  }
  return lines;
}

std::string sanitized_name(const std::string& model) {
  static constexpr std::string_view kReplaced = "\"<>:/\\|?*[]";
  std::string name;
  bool in_run = false;
  for (const char c : model) {
    const bool replaced = kReplaced.find(c) != std::string_view::npos || c == '\0';
    if (!replaced) name += c;
    if (replaced && !in_run) name += "__";
    in_run = replaced;
  }
  return name.empty() || name == "." || name == ".." ? "__" + name : name;
}

std::string date_id(double seconds_since_1970) {
  const auto whole = static_cast<std::time_t>(std::floor(seconds_since_1970));
  const auto micros =
      static_cast<int64_t>((seconds_since_1970 - std::floor(seconds_since_1970)) * 1e6);
  return fmt::format("{:%Y-%m-%dT%H-%M-%S}.{:06}", fmt::localtime(whole), micros);
}

}  // namespace lewis
