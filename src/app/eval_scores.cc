#include "app/eval_scores.h"

#include <algorithm>

#include "eval/results/results.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

constexpr double kNormal95 = 1.959963984540054;

bool holds_results(const fs::path& folder) {
  return std::ranges::any_of(fs::directory_iterator(folder), [](const auto& entry) {
    const std::string name = entry.path().filename().string();
    return name.starts_with("results_") && name.ends_with(".json");
  });
}

// A folder of models' folders is those; anything else is itself.
std::vector<fs::path> expand(const fs::path& path) {
  std::vector<fs::path> paths;
  if (fs::is_directory(path) && !holds_results(path)) {
    for (const auto& entry : fs::directory_iterator(path)) {
      if (entry.is_directory() && holds_results(entry.path())) paths.push_back(entry.path());
    }
    std::ranges::sort(paths);
  }
  if (paths.empty()) paths.push_back(path);
  return paths;
}

struct Scored {
  Role role = Role::kOther;
  ModelResults results;
};

// Base, experts, others, merged; within a kind as they came.
std::vector<Scored> read_all(const std::vector<fs::path>& paths, const RoleOf& role_of) {
  std::vector<Scored> models;
  for (const fs::path& path : paths) {
    for (const fs::path& one : expand(path)) {
      ModelResults results = read_results(one);
      const Role role = role_of(results.model);
      models.push_back({role, std::move(results)});
    }
  }
  std::ranges::stable_sort(models, {}, &Scored::role);
  return models;
}

const MetricResults* find_metric(const ModelResults& model, const std::string& task,
                                 const std::string& key) {
  for (const TaskResults& t : model.tasks) {
    if (t.name != task) continue;
    for (const MetricResults& m : t.metrics) {
      if (m.info.key() == key) return &m;
    }
  }
  return nullptr;
}

// Two ways to read an answer may say the same of every item of every model: one is shown.
bool repeats(const std::vector<Scored>& models, const TaskResults& task, size_t metric) {
  return metric > 0 && std::ranges::all_of(models, [&](const Scored& model) {
           const auto* one = find_metric(model.results, task.name, task.metrics[metric].info.key());
           const auto* before =
               find_metric(model.results, task.name, task.metrics[metric - 1].info.key());
           return !one || !before || (!one->scores.empty() && one->scores == before->scores);
         });
}

// The comparison says what the other model has more than the merged one.
ScoreComparison turned(const std::string& against, const MetricResults& other) {
  const PairedDifference& d = other.comparison->difference;
  ScoreComparison c{
      .against = against, .difference = -d.difference, .low = -d.high, .high = -d.low};
  if (other.comparison->shown()) {
    const bool better = (c.difference > 0) == other.info.higher_is_better;
    c.verdict = better ? ScoreVerdict::kBetter : ScoreVerdict::kWorse;
  }
  if (other.info.kind == MetricInfo::Kind::kExpMean) c.unit = "in its logarithm";
  return c;
}

ScorePanel panel_of(const std::vector<Scored>& models, const TaskResults& task,
                    const MetricInfo& info) {
  ScorePanel panel{.task = task.label.empty() ? task.name : task.label, .items = task.items};
  panel.metric = info.filter == "none" ? info.name : info.key();
  panel.higher_is_better = info.higher_is_better;
  panel.unit = info.kind == MetricInfo::Kind::kShare ? Unit::kPercent : Unit::kPlain;
  for (const Scored& model : models) {
    const MetricResults* metric = find_metric(model.results, task.name, info.key());
    if (!metric) continue;
    const double reach = kNormal95 * metric->standard_error.value_or(0);
    panel.scores.push_back({model.results.name, model.role, metric->value, metric->value - reach,
                            metric->value + reach});
    if (model.role != Role::kMerged && metric->comparison)
      panel.comparisons.push_back(turned(model.results.name, *metric));
  }
  return panel;
}

}  // namespace

std::vector<ScorePanel> read_scores(const std::vector<fs::path>& paths, const RoleOf& role_of) {
  std::vector<Scored> models = read_all(paths, role_of);
  const auto merged = std::ranges::find(models, Role::kMerged, &Scored::role);
  if (merged != models.end()) {
    std::vector<ModelResults> all;
    for (const Scored& model : models) all.push_back(model.results);
    compare_models(all, static_cast<size_t>(merged - models.begin()));
    for (size_t i = 0; i < models.size(); ++i) models[i].results = std::move(all[i]);
  }
  std::vector<ScorePanel> panels;
  std::vector<std::string> seen;
  for (const Scored& model : models) {
    for (const TaskResults& task : model.results.tasks) {
      for (size_t m = 0; m < task.metrics.size(); ++m) {
        const std::string key = task.name + " " + task.metrics[m].info.key();
        if (std::ranges::find(seen, key) != seen.end()) continue;
        seen.push_back(key);
        if (!repeats(models, task, m))
          panels.push_back(panel_of(models, task, task.metrics[m].info));
      }
    }
  }
  return panels;
}

}  // namespace lewis
