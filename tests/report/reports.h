// A report in which every part is present.
#pragma once

#include <cmath>
#include <string>

#include "report/report.h"

namespace lewis {

inline HeatMaps some_measure(const std::string& name, size_t layers, size_t models,
                             std::optional<double> centre = {}) {
  HeatMaps m{.name = name,
             .title = "Measure " + name,
             .explanation = "What " + name + " is.",
             .unit = centre ? Unit::kPercent : Unit::kPlain,
             .centre = centre};
  m.projections = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
  for (size_t l = 0; l < layers; ++l) m.layers.push_back(static_cast<int64_t>(l));
  for (size_t model = 0; model < models; ++model) {
    HeatMap map{"expert" + std::to_string(model), {}};
    for (size_t p = 0; p < m.projections.size(); ++p) {
      auto& row = map.cells.emplace_back();
      for (size_t l = 0; l < layers; ++l) {
        row.push_back(0.5 + 0.4 * std::sin(1.7 * static_cast<double>(l + 3 * p + 7 * model)));
      }
    }
    m.maps.push_back(map);
  }
  return m;
}

inline ScorePanel some_scores() {
  ScorePanel p{.task = "gsm8k math_test", .metric = "exact_match", .items = 500};
  p.higher_is_better = true;
  p.unit = Unit::kPercent;
  p.scores = {{"base", Role::kBase, 0.08, 0.05, 0.11},
              {"math", Role::kExpert, 0.67, 0.63, 0.71},
              {"merged", Role::kMerged, 0.3, 0.26, 0.34}};
  p.comparisons = {{"base", 0.22, 0.17, 0.26, ScoreVerdict::kBetter, ""},
                   {"math", -0.37, -0.42, -0.32, ScoreVerdict::kWorse, ""}};
  return p;
}

inline Report some_report(size_t layers = 4, size_t models = 2) {
  Report r;
  r.title = "merged";
  r.summary = "A merge.";
  r.key_figures = {{"1.7 M", "parameters"}};
  r.scores = {some_scores()};
  r.measures = {some_measure("density", layers, models),
                some_measure("sign-conflict", layers, models, 0.5)};
  r.tables = {{"Totals", "A note.", {"expert", "size"}, {{"math", "0.1"}}}};
  r.run = RunChart{{{"open", 0, 0.5}, {"merging", 0.5, 2}},
                   {{0.5, 1'000'000}, {1.5, 3'000'000}},
                   2,
                   3'000'000,
                   10'000'000};
  for (size_t l = 0; l < layers; ++l) {
    for (const char* end : {".self_attn.q_proj.weight", ".mlp.up_proj.weight"})
      r.tensors.push_back(
          {"model.layers." + std::to_string(l) + end, "BF16", "[2, 3]", 6, Fate::kMerged});
  }
  r.tensors.push_back({"model.norm.weight", "F32", "[3]", 3, Fate::kCopied});
  r.models = {{"math", "0123abcd", true}};
  r.provenance = {{"lewis", "0.1.0"}};
  r.recipe = "merge_method: ties\n";
  return r;
}

}  // namespace lewis
