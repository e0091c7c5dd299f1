#include "merge/sources/expert_order.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <vector>

#include "base/dtype.h"
#include "io/expert_tensors.h"
#include "io/pieces_source.h"
#include "io/tensor_names.h"
#include "merge/common/assignment.h"

namespace lewis {
namespace {

// Tensors with one row or one number per expert, behind the place of the experts. The first kind
// are the routers themselves.
constexpr auto kRouters = std::to_array<std::string_view>(
    {"gate.weight", "gate.wg.weight", "router.weight", "router.layer.weight", "router.proj.weight",
     "router.gate.weight", "router.classifier.weight"});
constexpr auto kPerExpert = std::to_array<std::string_view>(
    {"gate.bias", "gate.e_score_correction_bias", "e_score_correction_bias", "expert_bias",
     "moe_statics.e_score_correction_bias", "router.bias", "router.layer.bias", "router.proj.bias",
     "router.per_expert_scale", "router.classifier.bias", "router.e_score_correction_bias"});

// A sample of what there is: so many columns of a router, rows of a weight and columns of each row.
constexpr int64_t kRouterColumns = 256, kWeightRows = 4, kWeightColumns = 64;

// The experts of one layer.
struct Layer {
  std::string place;                                                    // "model.layers.0.mlp."
  std::map<std::string, std::map<int64_t, const TensorInfo*>> weights;  // by linear layer
  const TensorInfo* router = nullptr;
  std::vector<const TensorInfo*> per_expert{};  // the router among them

  size_t count() const { return weights.begin()->second.size(); }
};

// By the place in the spelling that all models share.
using Layers = std::map<std::string, Layer>;

// Everything per expert, if the numbers of experts agree everywhere; else the layer is left alone.
bool complete(const TensorSource& source, Layer& layer) {
  if (!layer.weights.contains("up_proj")) return false;
  const auto experts = static_cast<int64_t>(layer.count());
  for (const auto& [linear, of] : layer.weights) {
    const TensorInfo& first = *of.begin()->second;
    const auto alike = [&](const auto& t) {
      return t.second->shape == first.shape && is_arithmetic(t.second->dtype);
    };
    if (of.rbegin()->first + 1 != experts || static_cast<int64_t>(of.size()) != experts ||
        first.shape.size() != 2 || element_count(first.shape) == 0 ||
        !std::ranges::all_of(of, alike))
      return false;
  }
  const auto add = [&](std::string_view rest, bool router) {
    const TensorInfo* t = source.find(layer.place + std::string(rest));
    if (!t) return true;
    layer.per_expert.push_back(t);
    if (router) {
      layer.router = t;
      return t->shape.size() == 2 && t->shape[0] == experts && t->shape[1] > 0 &&
             is_arithmetic(t->dtype);
    }
    return element_count(t->shape) == experts && is_arithmetic(t->dtype);
  };
  const auto routers = std::ranges::all_of(kRouters, [&](auto rest) { return add(rest, true); });
  return routers && layer.router &&
         std::ranges::all_of(kPerExpert, [&](auto rest) { return add(rest, false); });
}

Layers layers_of(const TensorSource& source) {
  std::map<std::string, Layer, std::less<>> places;
  for (const TensorInfo& t : source.tensors()) {
    auto name = split_expert_name(t.name);
    if (!name || name->bias) continue;
    Layer& layer = places[name->place];
    layer.place = std::move(name->place);
    layer.weights[name->linear][name->expert] = &t;
  }
  Layers layers;
  for (auto& [place, layer] : places) {
    if (complete(source, layer))
      layers.emplace(canonical_name(place + "experts"), std::move(layer));
  }
  return layers;
}

// [experts, columns]: some values of each expert.
struct Sample {
  size_t columns = 0;
  std::vector<float> values;
  std::span<const float> row(size_t expert) const {
    return std::span(values).subspan(expert * columns, columns);
  }
};

// Samples rows [first, first + rows) of a matrix, which are read at once: so many columns of each,
// evenly spread, or all where it has fewer.
void add_rows(const TensorSource& source, const TensorInfo& t, int64_t first, int64_t rows,
              int64_t most, std::vector<float>& values) {
  const int64_t columns = t.shape[1], taken = std::min(most, columns);
  std::vector<std::byte> bytes(static_cast<size_t>(rows * columns) * dtype_size(t.dtype));
  std::vector<float> wide(static_cast<size_t>(rows * columns));
  source.read(t, first * columns, bytes);
  widen(t.dtype, bytes.data(), wide);
  for (int64_t i = 0; i < rows * taken; ++i) {
    const int64_t at = i / taken * columns + i % taken * columns / taken;
    values.push_back(wide[static_cast<size_t>(at)]);
  }
}

Sample router_sample(const TensorSource& source, const TensorInfo& router) {
  Sample sample;
  add_rows(source, router, 0, router.shape[0], kRouterColumns, sample.values);
  sample.columns = sample.values.size() / static_cast<size_t>(router.shape[0]);
  return sample;
}

// Rows in the middle of up_proj, which experts of every kind have.
Sample weight_sample(const TensorSource& source, const Layer& layer) {
  Sample sample;
  for (const auto& [expert, t] : layer.weights.at("up_proj")) {
    const int64_t rows = std::min(kWeightRows, t->shape[0]);
    add_rows(source, *t, (t->shape[0] - rows) / 2, rows, kWeightColumns, sample.values);
  }
  sample.columns = sample.values.size() / layer.count();
  return sample;
}

double squared_distance(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += d * d;
  }
  return sum;
}

// Returns whether |a - b|^2 > limit; it ends as soon as that is known.
bool is_farther(std::span<const float> a, std::span<const float> b, double limit) {
  constexpr size_t kTogether = 16;
  double sum = 0;
  for (size_t i = 0; i < a.size(); i += kTogether) {
    const size_t n = std::min(kTogether, a.size() - i);
    sum += squared_distance(a.subspan(i, n), b.subspan(i, n));
    if (sum > limit) return true;
  }
  return false;
}

// Returns whether each row is nearest to main's row of the same number.
bool stands_in_order(const Sample& own, const Sample& main, size_t experts) {
  if (own.values == main.values) return true;
  for (size_t i = 0; i < experts; ++i) {
    const double at_place = squared_distance(own.row(i), main.row(i));
    for (size_t j = 0; j < experts; ++j) {
      if (j != i && !is_farther(own.row(j), main.row(i), at_place)) return false;
    }
  }
  return true;
}

// cost[i][j] += the distance of main's expert i and own expert j: 0 where they are equal, about 1
// where they have nothing in common, at most 2.
void add_distances(const Sample& own, const Sample& main, size_t experts,
                   std::vector<double>& cost) {
  const auto square = [](std::span<const float> row) {
    double sum = 0;
    for (const float v : row) sum += static_cast<double>(v) * static_cast<double>(v);
    return sum;
  };
  for (size_t i = 0; i < experts; ++i) {
    for (size_t j = 0; j < experts; ++j) {
      const double both = square(own.row(j)) + square(main.row(i));
      if (both > 0) cost[i * experts + j] += squared_distance(own.row(j), main.row(i)) / both;
      if (std::isnan(both)) cost[i * experts + j] = both;
    }
  }
}

// One layer's order: expert i of the output is from[i]. Empty: it stays.
struct Order {
  std::vector<size_t> from;
  bool unclear = false;
};

Order order_of(const TensorSource& source, const Layer& own, const TensorSource& main_source,
               const Layer& main, int64_t groups) {
  const size_t experts = own.count();
  const Sample router = router_sample(source, *own.router);
  const Sample in_main = router_sample(main_source, *main.router);
  if (stands_in_order(router, in_main, experts)) return {};
  std::vector<double> cost(experts * experts);
  add_distances(router, in_main, experts, cost);
  add_distances(weight_sample(source, own), weight_sample(main_source, main), experts, cost);
  // The merge itself refuses values that are not finite, and names them.
  if (!std::ranges::all_of(cost, [](double c) { return std::isfinite(c); })) return {};
  const size_t parts =
      groups > 1 && experts % static_cast<size_t>(groups) == 0 ? static_cast<size_t>(groups) : 1;
  Order order{cheapest_assignment(cost, experts, parts)};
  double at_place = 0, moved = 0;
  for (size_t i = 0; i < experts; ++i) {
    if (order.from[i] == i) continue;
    at_place += cost[i * experts + i];
    moved += cost[i * experts + order.from[i]];
  }
  if (at_place == moved) return {};
  order.unclear = at_place < kClearlyNearer * moved;
  return order;
}

bool comparable(const Layer& own, const Layer& main) {
  const auto shapes = [](const Layer& layer) {
    std::vector<std::pair<std::string, Shape>> all;
    for (const auto& [linear, of] : layer.weights)
      all.emplace_back(linear, of.begin()->second->shape);
    return all;
  };
  return own.count() == main.count() && shapes(own) == shapes(main) &&
         own.router->shape == main.router->shape;
}

// ---- the source ----

// The place of the experts in a name like "model.layers.0.mlp.experts.3.up_proj.weight", the number
// and what stands behind it.
struct ExpertPart {
  std::string_view place, rest;
  size_t expert = 0;
};
std::optional<ExpertPart> expert_part(std::string_view name) {
  constexpr std::string_view kExperts = ".experts.";
  const size_t at = name.find(kExperts);
  if (at == std::string_view::npos) return std::nullopt;
  ExpertPart part{name.substr(0, at + 1), name.substr(at + kExperts.size())};
  const char* begin = part.rest.data();
  const auto [end, error] = std::from_chars(begin, begin + part.rest.size(), part.expert);
  if (error != std::errc() || end == begin) return std::nullopt;
  part.rest.remove_prefix(static_cast<size_t>(end - begin));
  return part;
}

PiecedTensor in_order(const TensorInfo& t, const std::vector<size_t>& from) {
  PiecedTensor shown{t, {}};
  const int64_t columns = element_count(t.shape) / static_cast<int64_t>(from.size());
  for (const size_t expert : from)
    shown.pieces.push_back({&t, {static_cast<int64_t>(expert) * columns, 1, columns, columns, 1}});
  return shown;
}

class Reordering {
 public:
  // from: as Order has it. The layer must outlive this.
  void add(const Layer& layer, std::vector<size_t> from) {
    Moved& moved = moved_[layer.place];
    moved.to.resize(from.size());
    for (size_t i = 0; i < from.size(); ++i) moved.to[from[i]] = i;
    moved.from = std::move(from);
    for (const TensorInfo* t : layer.per_expert) per_expert_[t] = &moved.from;
  }

  std::shared_ptr<const TensorSource> show(std::shared_ptr<const TensorSource> source) const {
    std::vector<PiecedTensor> shown;
    for (const TensorInfo& t : source->tensors()) {
      const auto rows = per_expert_.find(&t);
      if (rows != per_expert_.end()) {
        shown.push_back(in_order(t, *rows->second));
        continue;
      }
      shown.push_back(whole_tensor(t));
      const auto part = expert_part(t.name);
      const auto moved = part ? moved_.find(part->place) : moved_.end();
      if (moved == moved_.end() || part->expert >= moved->second.to.size()) continue;
      shown.back().info.name =
          fmt::format("{}experts.{}{}", part->place, moved->second.to[part->expert], part->rest);
    }
    return show_pieces(std::move(source), std::move(shown));
  }

 private:
  struct Moved {
    std::vector<size_t> from, to;
  };
  std::map<std::string, Moved, std::less<>> moved_;  // by place
  std::map<const TensorInfo*, const std::vector<size_t>*> per_expert_;
};

}  // namespace

bool has_experts(const TensorSource& source) {
  return std::ranges::any_of(
      source.tensors(), [](const TensorInfo& t) { return split_expert_name(t.name).has_value(); });
}

OrderedExperts order_experts(std::shared_ptr<const TensorSource> source, const TensorSource& main,
                             int64_t groups, Threads& threads) {
  const Layers own = layers_of(*source), others = layers_of(main);
  std::vector<std::pair<const Layer*, const Layer*>> pairs;
  for (const auto& [place, layer] : own) {
    const auto other = others.find(place);
    if (other != others.end() && comparable(layer, other->second))
      pairs.emplace_back(&layer, &other->second);
  }
  std::vector<Order> orders(pairs.size());
  threads.run(pairs.size(), [&](size_t i) {
    orders[i] = order_of(*source, *pairs[i].first, main, *pairs[i].second, groups);
  });
  OrderedExperts result;
  Reordering reordering;
  for (size_t p = 0; p < pairs.size(); ++p) {
    Order& order = orders[p];
    const Layer& layer = *pairs[p].first;
    if (order.unclear && result.unclear++ == 0) result.first_unclear = layer.place;
    if (order.unclear || order.from.empty()) continue;
    for (size_t i = 0; i < order.from.size(); ++i) result.experts += order.from[i] != i;
    ++result.layers;
    result.key += fmt::format("{} {}\n", layer.place, fmt::join(order.from, " "));
    reordering.add(layer, std::move(order.from));
  }
  result.source = result.layers > 0 ? reordering.show(source) : std::move(source);
  return result;
}

}  // namespace lewis
