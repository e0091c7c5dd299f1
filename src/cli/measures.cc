#include "cli/measures.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "base/json.h"
#include "cli/table.h"
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

HeatMaps of_modules(HeatMaps measure, const std::vector<ModuleValues>& models) {
  std::vector<TitledCells> all;
  for (const ModuleValues& m : models) {
    std::map<Place, std::pair<double, int>> sums;
    for (const auto& [module, value] : m.values) {
      auto& [sum, count] = sums[{component_of(module), tensor_layer(module).value_or(0)}];
      sum += value;
      ++count;
    }
    Cells cells;
    for (const auto& [place, sum] : sums) cells[place] = sum.first / sum.second;
    all.push_back({m.title, std::move(cells)});
  }
  return filled(std::move(measure), all);
}

// Where a weight belongs in a map; nothing for what is no matrix of a layer. `stacks`: whether the
// model has several stacks of layers, which then are told apart.
std::optional<Place> place_of(const TensorDiagnostics& t, bool stacks) {
  const auto layer = tensor_layer(t.name);
  if (t.shape.size() < 2 || !layer) return std::nullopt;
  constexpr std::string_view kEnd = ".weight";
  std::string module = t.name;
  if (module.ends_with(kEnd)) module.resize(module.size() - kEnd.size());
  const std::string component = component_of(module);
  return Place{stacks ? t.name.substr(0, t.name.find('.')) + "." + component : component, *layer};
}

std::map<Place, DiagnosticTotals> by_place(const MergeDiagnostics& d) {
  std::set<std::string> stacks;
  for (const TensorDiagnostics& t : d.tensors) {
    if (place_of(t, false)) stacks.insert(t.name.substr(0, t.name.find('.')));
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

std::string pair_title(const std::vector<std::string>& titles, size_t a, size_t b) {
  return titles[a] + " and " + titles[b];
}

// One map a pair; of more than three pairs, what they have together.
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
       .explanation = "How much of the expert's change is in the merged layer after trimming, "
                      "election and weights: the merged difference projected on the task vector. "
                      "100 % is all of it, 0 % nothing.",
       .unit = Unit::kPercent},
      places, titles, &TaskVectorSums::carried_share));
  if (titles.size() > 1) measures.push_back(conflict_measure(places, titles, d.trims));
  return measures;
}

DiagnosticTotals totals_of(const MergeDiagnostics& d) {
  DiagnosticTotals all;
  all.models.resize(d.models.size());
  all.pairs.resize(d.models.size() * (d.models.size() - 1) / 2);
  for (const TensorDiagnostics& t : d.tensors) {
    all.entries += element_count(t.shape);
    for (size_t m = 0; m < all.models.size(); ++m) all.models[m] += t.models[m];
    for (size_t p = 0; p < all.pairs.size(); ++p) all.pairs[p] += t.pairs[p];
  }
  return all;
}

std::optional<double> DiagnosticTotals::changed_share(size_t model) const {
  if (entries == 0) return std::nullopt;
  return static_cast<double>(models[model].changed) / static_cast<double>(entries);
}

double cosine_of(const DiagnosticTotals& totals, size_t a, size_t b) {
  const double norms = std::sqrt(totals.models[a].squares * totals.models[b].squares);
  return norms > 0 ? totals.pairs[pair_index(a, b, totals.models.size())].dot / norms : 0;
}

namespace {

std::string percent(std::optional<double> share) {
  return share ? fmt::format("{:.1f} %", 100 * *share) : "";
}

}  // namespace

TotalsTable task_vector_table(const MergeDiagnostics& d, const std::vector<std::string>& titles) {
  const DiagnosticTotals totals = totals_of(d);
  TotalsTable table{{"expert", "size", "changed", "kept", "dropped", "in the merge"}, {}};
  for (size_t m = 0; m < titles.size(); ++m) {
    const TaskVectorSums& s = totals.models[m];
    const auto size = s.relative_size();
    table.rows.push_back({titles[m], size ? fmt::format("{:.4f}", *size) : "",
                          percent(totals.changed_share(m)), d.trims ? percent(s.kept_share()) : "",
                          d.trims ? percent(s.energy_dropped()) : "", percent(s.carried_share())});
  }
  return table;
}

TotalsTable pair_table(const MergeDiagnostics& d, const std::vector<std::string>& titles) {
  const DiagnosticTotals totals = totals_of(d);
  TotalsTable table{{"pair", "sign conflict", "after trimming", "cosine"}, {}};
  for (size_t a = 0; a < titles.size(); ++a) {
    for (size_t b = a + 1; b < titles.size(); ++b) {
      const PairSums& p = totals.pairs[pair_index(a, b, titles.size())];
      table.rows.push_back({pair_title(titles, a, b), percent(p.conflict()),
                            d.trims ? percent(p.conflict_kept()) : "",
                            fmt::format("{:.3f}", cosine_of(totals, a, b))});
    }
  }
  return table;
}

namespace {

Json number_or_null(std::optional<double> value) { return value ? Json(*value) : Json(); }

Json to_json(const std::vector<TaskVectorSums>& models, const std::vector<PairSums>& pairs,
             const MergeDiagnostics& d) {
  const std::vector<std::string>& names = d.models;
  const auto if_trimmed = [&](std::optional<double> v) {
    return d.trims ? number_or_null(v) : Json();
  };
  Json by_model = Json::object(), by_pair = Json::array();
  for (size_t m = 0; m < models.size(); ++m) {
    const TaskVectorSums& s = models[m];
    by_model[names[m]] = {{"relative_size", number_or_null(s.relative_size())},
                          {"changed", s.changed},
                          {"kept_share", if_trimmed(s.kept_share())},
                          {"energy_dropped", if_trimmed(s.energy_dropped())},
                          {"carried_share", number_or_null(s.carried_share())}};
  }
  for (size_t a = 0; a < models.size(); ++a) {
    for (size_t b = a + 1; b < models.size(); ++b) {
      const PairSums& p = pairs[pair_index(a, b, models.size())];
      const double norms = std::sqrt(models[a].squares * models[b].squares);
      by_pair.push_back({{"models", {names[a], names[b]}},
                         {"sign_conflict", number_or_null(p.conflict())},
                         {"sign_conflict_kept", if_trimmed(p.conflict_kept())},
                         {"cosine", norms > 0 ? Json(p.dot / norms) : Json()}});
    }
  }
  return {{"models", by_model}, {"pairs", by_pair}};
}

constexpr size_t kBetween = 4;  // columns between maps side by side

// A map as lines of text.
struct Block {
  std::vector<std::string> lines;
  size_t width() const {
    size_t widest = 0;
    for (const std::string& line : lines) widest = std::max(widest, display_width(line));
    return widest;
  }
};

std::string cell_of(double value, const HeatMaps& measure) {
  return measure.unit == Unit::kPercent ? fmt::format(" {:5.1f} ", 100 * value)
                                        : fmt::format(" {:.3f} ", value);
}

// Columns of projections [first, last) of one map, cut to the terminal's width.
Block block_of(const HeatMaps& measure, const HeatMap& map, size_t first, size_t last,
               const Terminal& terminal) {
  const Scale scale = scale_of(measure);
  std::vector<Table::Column> columns = {{"layer"}};
  for (size_t p = first; p < last; ++p) columns.push_back({measure.projections[p]});
  Table table(columns);
  for (size_t l = 0; l < measure.layers.size(); ++l) {
    std::vector<std::string> cells = {std::to_string(measure.layers[l])};
    for (size_t p = first; p < last; ++p) {
      const auto& value = map.cells[p][l];
      if (!value) {
        cells.emplace_back();
        continue;
      }
      const double share =
          scale.high > scale.low ? (*value - scale.low) / (scale.high - scale.low) : 0.5;
      const std::string text = cell_of(*value, measure);
      cells.push_back(scale.diverges ? diverging_cell(text, share, terminal.color)
                                     : heat_cell(text, share, terminal.color));
    }
    table.add(std::move(cells));
  }
  Terminal whole = terminal;  // the map is cut already
  whole.tty = false;
  const auto room = static_cast<size_t>(std::max(terminal.width, 20));
  Block block;
  const std::string title = map.title.empty() ? measure.title : measure.title + ", " + map.title;
  block.lines.push_back(
      styled(elide(printable(title + (measure.unit == Unit::kPercent ? " (%)" : "")), room), "1",
             terminal.color));
  const std::string text = table.text(whole);
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    block.lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return block;
}

// The most projections from `first` on that fit in `width` columns, at least one.
size_t fitting(const HeatMaps& measure, size_t first, size_t width) {
  size_t used = 5, last = first;
  while (last < measure.projections.size()) {
    used += 2 + std::max<size_t>(7, display_width(measure.projections[last]));
    if (used > width && last > first) break;
    ++last;
  }
  return last;
}

std::string side_by_side(const std::vector<Block>& blocks) {
  std::string text;
  size_t height = 0;
  for (const Block& b : blocks) height = std::max(height, b.lines.size());
  for (size_t line = 0; line < height; ++line) {
    std::string whole;
    size_t begin = 0;  // of the block, in columns
    for (const Block& b : blocks) {
      if (line < b.lines.size()) {
        whole += std::string(begin - display_width(whole), ' ') + b.lines[line];
      }
      begin += b.width() + kBetween;
    }
    text += whole + "\n";
  }
  return text;
}

}  // namespace

Json to_json(const std::vector<ModuleValues>& models) {
  Json json = Json::object();
  for (const ModuleValues& m : models) {
    Json values = Json::object();
    for (const auto& [module, value] : m.values) values[module] = value;
    json[m.title] = std::move(values);
  }
  return json;
}

std::vector<ModuleValues> titled(std::vector<ModuleValues> models) {
  std::vector<std::filesystem::path> paths;
  for (const ModuleValues& m : models) paths.emplace_back(m.title);
  const std::vector<std::string> names = short_names(paths);
  for (size_t i = 0; i < models.size(); ++i) models[i].title = names[i];
  return models;
}

Json to_json(const MergeDiagnostics& d) {
  const DiagnosticTotals totals = totals_of(d);
  Json json = to_json(totals.models, totals.pairs, d);
  json["trims"] = d.trims;
  Json tensors = Json::object();
  for (const TensorDiagnostics& t : d.tensors) tensors[t.name] = to_json(t.models, t.pairs, d);
  json["tensors"] = tensors;
  return json;
}

std::string terminal_maps(const std::vector<HeatMaps>& measures, const Terminal& terminal) {
  const auto room = static_cast<size_t>(std::max(terminal.width, 20));
  std::string text;
  std::vector<Block> row;
  size_t used = 0;
  const auto flush = [&] {
    if (!row.empty()) text += (text.empty() ? "" : "\n") + side_by_side(row);
    row.clear();
    used = 0;
  };
  for (const HeatMaps& measure : measures) {
    for (const HeatMap& map : measure.maps) {
      for (size_t first = 0; first < measure.projections.size();) {
        const size_t last = fitting(measure, first, room);
        Block block = block_of(measure, map, first, last, terminal);
        if (used + block.width() > room) flush();
        used += block.width() + kBetween;
        row.push_back(std::move(block));
        first = last;
      }
    }
    if (measure.maps.size() > 1) flush();  // models beside each other, not measures
  }
  flush();
  return text;
}

}  // namespace lewis
