#include "app/measures.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "app/totals.h"
#include "plan/normalization.h"
#include "recipe/recipe.h"
#include "report/charts.h"

namespace lewis {
namespace {

using Place = std::pair<std::string, int64_t>;  // projection, layer
using Cells = std::map<Place, double>;

// Projections in the order in which a block computes them; others behind, sorted.
std::vector<std::string> in_order(const std::set<std::string>& there) {
  static constexpr std::array<std::string_view, 11> kOrder = {
      "qkv_proj",  "q_proj",  "k_proj",    "v_proj", "o_proj", "gate_up_proj",
      "gate_proj", "up_proj", "down_proj", "c_fc",   "c_proj"};
  std::vector<std::string> order;
  for (const std::string_view name : kOrder) {
    if (there.contains(std::string(name))) order.emplace_back(name);
  }
  for (const std::string& name : there) {
    if (std::ranges::find(order, name) == order.end()) order.push_back(name);
  }
  return order;
}

struct TitledCells {
  std::string title;
  Cells cells;
};

// Gives a measure the cells of its models.
HeatMaps filled(HeatMaps measure, const std::vector<TitledCells>& models) {
  std::set<std::string> projections;
  std::set<int64_t> layers;
  for (const TitledCells& m : models) {
    for (const auto& [place, _] : m.cells) {
      projections.insert(place.first);
      layers.insert(place.second);
    }
  }
  measure.projections = in_order(projections);
  measure.layers.assign(layers.begin(), layers.end());
  for (const TitledCells& m : models) {
    HeatMap map{m.title, {}};
    for (const std::string& projection : measure.projections) {
      auto& row = map.cells.emplace_back();
      for (const int64_t layer : measure.layers) {
        const auto found = m.cells.find({projection, layer});
        row.push_back(found == m.cells.end() ? std::nullopt : std::optional(found->second));
      }
    }
    measure.maps.push_back(std::move(map));
  }
  return measure;
}

// A short name of the stack of layers that a tensor is in: "vision_tower" of
// "vision_tower.encoder.layers.3.(...)", "visual" of "model.visual.blocks.3.(...)".
std::string stack_of(std::string_view name) {
  std::string_view prefix = split_layer(name).prefix;
  if (prefix.starts_with("model.") && std::ranges::count(prefix, '.') > 2) prefix.remove_prefix(6);
  return std::string(prefix.substr(0, prefix.find('.')));
}

HeatMaps of_modules(HeatMaps measure, const std::vector<ModuleValues>& models) {
  std::vector<TitledCells> all;
  for (const ModuleValues& m : models) {
    std::map<Place, std::pair<double, int>> sums;
    std::set<std::string> stacks;
    for (const auto& [module, _] : m.values) stacks.insert(stack_of(module));
    for (const auto& [module, value] : m.values) {
      const std::string stack = stacks.size() > 1 ? stack_of(module) + "." : "";
      auto& [sum, count] = sums[{stack + component_of(module), tensor_layer(module).value_or(0)}];
      sum += value;
      ++count;
    }
    Cells cells;
    for (const auto& [place, sum] : sums) cells[place] = sum.first / sum.second;
    all.push_back({m.title, std::move(cells)});
  }
  return filled(std::move(measure), all);
}

// The place of a weight in a map; unset for a tensor that is no matrix of a layer. `stacks`:
// whether the model has several stacks of layers, which then are told apart.
std::optional<Place> place_of(const TensorDiagnostics& t, bool stacks) {
  const auto layer = tensor_layer(t.name);
  if (t.shape.size() < 2 || !layer) return std::nullopt;
  constexpr std::string_view kEnd = ".weight";
  std::string module = t.name;
  if (module.ends_with(kEnd)) module.resize(module.size() - kEnd.size());
  const std::string component = component_of(module);
  return Place{stacks ? stack_of(t.name) + "." + component : component, *layer};
}

std::map<Place, DiagnosticTotals> by_place(const MergeDiagnostics& d) {
  std::set<std::string> stacks;
  for (const TensorDiagnostics& t : d.tensors) {
    if (place_of(t, false)) stacks.insert(stack_of(t.name));
  }
  std::map<Place, DiagnosticTotals> places;
  for (const TensorDiagnostics& t : d.tensors) {
    const auto place = place_of(t, stacks.size() > 1);
    if (!place) continue;
    DiagnosticTotals& sum = places[*place];
    sum.models.resize(d.models.size());
    sum.pairs.resize(t.pairs.size());
    for (size_t m = 0; m < t.models.size(); ++m) sum.models[m] += t.models[m];
    for (size_t p = 0; p < t.pairs.size(); ++p) sum.pairs[p] += t.pairs[p];
  }
  return places;
}

using OfModel = std::optional<double> (TaskVectorSums::*)() const;

HeatMaps of_task_vectors(HeatMaps measure, const std::map<Place, DiagnosticTotals>& places,
                         const std::vector<std::string>& titles, OfModel value) {
  std::vector<TitledCells> models;
  for (size_t m = 0; m < titles.size(); ++m) {
    TitledCells model{titles[m], {}};
    for (const auto& [place, sums] : places) {
      if (const auto v = (sums.models[m].*value)()) model.cells[place] = *v;
    }
    models.push_back(std::move(model));
  }
  return filled(std::move(measure), models);
}

// One map per pair; for more than three pairs one map of all together.
HeatMaps conflict_measure(const std::map<Place, DiagnosticTotals>& places,
                          const std::vector<std::string>& titles, bool trims) {
  const size_t n = titles.size(), pairs = n * (n - 1) / 2;
  std::vector<TitledCells> maps;
  const auto value = [&](const PairSums& p) { return trims ? p.conflict_kept() : p.conflict(); };
  if (pairs > 3) {
    maps.push_back({"all pairs", {}});
    for (const auto& [place, sums] : places) {
      PairSums all;
      for (const PairSums& p : sums.pairs) all += p;
      if (const auto v = value(all)) maps[0].cells[place] = *v;
    }
  }
  for (size_t a = 0; pairs <= 3 && a < n; ++a) {
    for (size_t b = a + 1; b < n; ++b) {
      maps.push_back({pair_title(titles, a, b), {}});
      for (const auto& [place, sums] : places) {
        if (const auto v = value(sums.pairs[pair_index(a, b, n)])) maps.back().cells[place] = *v;
      }
    }
  }
  return filled(
      {.name = "sign-conflict",
       .title = "Sign conflict between experts",
       .explanation = fmt::format(
           "Of the entries that two experts both change{}, the share that they push in opposite "
           "directions. Half is what two unrelated task vectors have; blue is agreement, orange "
           "conflict.",
           trims ? " after trimming" : ""),
       .unit = Unit::kPercent,
       .centre = 0.5},
      maps);
}

}  // namespace

std::vector<std::string> short_names(const std::vector<std::filesystem::path>& paths) {
  std::vector<std::string> names;
  for (const auto& path : paths) {
    const std::string normal = path.lexically_normal().string();
    const std::string whole = normal.ends_with('/') ? normal.substr(0, normal.size() - 1) : normal;
    size_t begin = whole.rfind('/');
    const auto ambiguous = [&](const std::string& end) {
      return std::count_if(paths.begin(), paths.end(), [&](const auto& other) {
               std::string o = other.lexically_normal().string();
               if (o.ends_with('/')) o.pop_back();
               return o == end || (o.ends_with(end) && o[o.size() - end.size() - 1] == '/');
             }) > 1;
    };
    while (begin != std::string::npos && begin > 0 && ambiguous(whole.substr(begin + 1)))
      begin = whole.rfind('/', begin - 1);
    names.push_back(begin == std::string::npos ? whole : whole.substr(begin + 1));
  }
  return names;
}

HeatMaps importance_measure(const std::vector<ModuleValues>& models) {
  return of_modules({.name = "importance",
                     .title = "Importance",
                     .explanation = "How far the layer's activation-weighted norm moved from the "
                                    "base on the calibration text, as a share of its projection's "
                                    "sum over all layers."},
                    models);
}

HeatMaps density_measure(const std::vector<ModuleValues>& models) {
  return of_modules({.name = "density",
                     .title = "Density",
                     .explanation = "The share of the layer's task vector that the recipe keeps; "
                                    "the smallest entries are dropped."},
                    models);
}

HeatMaps activation_error_measure(const std::vector<ModuleValues>& models) {
  return of_modules({.name = "activation-error",
                     .title = "Activation error",
                     .explanation = "How far the layer's output in the merge is from what the "
                                    "expert's returns on held-out calibration text, relative to "
                                    "the latter; each model runs the text from the start.",
                     .unit = Unit::kPercent},
                    models);
}

std::vector<HeatMaps> diagnostic_measures(const MergeDiagnostics& d,
                                          const std::vector<std::string>& titles) {
  const auto places = by_place(d);
  std::vector<HeatMaps> measures;
  measures.push_back(of_task_vectors(
      {.name = "task-vector-size",
       .title = "Size of the task vector",
       .explanation = "How much fine-tuning changed the layer: the norm of expert minus base, "
                      "relative to the norm of the base."},
      places, titles, &TaskVectorSums::relative_size));
  if (d.trims) {
    measures.push_back(of_task_vectors(
        {.name = "energy-dropped",
         .title = "Energy dropped",
         .explanation = "What trimming costs: the share of the task vector's squared norm in the "
                        "entries that were dropped.",
         .unit = Unit::kPercent},
        places, titles, &TaskVectorSums::energy_dropped));
  }
  measures.push_back(of_task_vectors(
      {.name = "share-kept",
       .title = "Share kept in the merge",
       .explanation =
           "How much of the expert's change is in the merged layer after trimming, "
           "election, weights and refinement: the merged difference projected on the task vector. "
           "100 % is all of it, 0 % nothing.",
       .unit = Unit::kPercent},
      places, titles, &TaskVectorSums::carried_share));
  if (titles.size() > 1) measures.push_back(conflict_measure(places, titles, d.trims));
  return measures;
}

std::vector<ModuleValues> titled(std::vector<ModuleValues> models) {
  std::vector<std::filesystem::path> paths;
  for (const ModuleValues& m : models) paths.emplace_back(m.title);
  const std::vector<std::string> names = short_names(paths);
  for (size_t i = 0; i < models.size(); ++i) models[i].title = names[i];
  return models;
}

}  // namespace lewis
