#include "merge/extraction/rank_groups.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/error.h"
#include "merge/sources/low_rank.h"

namespace lewis {
namespace {

constexpr std::string_view kGateUp = "experts.gate_up_proj", kDown = "experts.down_proj";

// The experts of one layer, by the name of the projection and their number.
using LayerExperts = std::map<std::string, std::map<int64_t, const TensorInfo*>>;

bool is_known(const ExpertLayout& layout) {
  return layout.gate && layout.first == kGateUp && layout.down == kDown;
}

const ExpertLayout* layout_of(const ExpertName& name, const FusedExperts& fused) {
  const auto found = fused.find(place_in_any_layer(name.place));
  return found == fused.end() ? nullptr : &found->second;
}

// The matrices of a parameter: those of `linear`, with those of `below` under them.
RankGroup parameter_group(const std::string& place, const LayerExperts& layer,
                          const std::string& linear, const char* below,
                          const ExpertLayout& layout) {
  RankGroup group{.matrices = {}, .parameter = {}, .layout = layout, .experts = true};
  group.parameter = place + std::string(below ? kGateUp : kDown);
  const auto& firsts = layer.at(linear);
  for (const auto& [expert, weight] : firsts) {
    AdapterMatrix matrix{weight};
    if (below) matrix.up = layer.at(below).at(expert);
    group.matrices.push_back(matrix);
    const bool fits = weight->shape == firsts.begin()->second->shape &&
                      (!matrix.up || matrix.up->shape == weight->shape);
    if (!fits)
      throw input_error("tensor {} is {}, which is not as the other experts of {} are",
                        weight->name, to_string(weight->shape), group.parameter);
  }
  return group;
}

void check_whole(const std::string& place, const LayerExperts& layer) {
  const auto count = [&](const char* linear) {
    const auto found = layer.find(linear);
    if (found == layer.end()) return int64_t{0};
    const auto n = static_cast<int64_t>(found->second.size());
    return found->second.rbegin()->first == n - 1 ? n : int64_t{-1};
  };
  const int64_t gates = count("gate_proj"), ups = count("up_proj"), downs = count("down_proj");
  if (gates <= 0 || gates != ups || gates != downs)
    throw input_error("{}experts: not every expert has a gate, an up and a down projection", place);
}

}  // namespace

bool is_expert_of_adapter(const TensorInfo& tensor, const FusedExperts& fused) {
  const auto name = split_expert_name(tensor.name);
  if (!name || name->bias || tensor.shape.size() != 2) return false;
  const ExpertLayout* layout = layout_of(*name, fused);
  return !layout || is_known(*layout);
}

std::vector<RankGroup> rank_groups(const std::vector<const TensorInfo*>& linear, bool experts,
                                   const TensorSource& model, const FusedExperts& fused,
                                   bool as_parameters) {
  const ExpertLayout usual{std::string(kGateUp), std::string(kDown)};
  std::vector<RankGroup> groups;
  for (const TensorInfo* t : linear)
    groups.push_back({.matrices = {{t}}, .parameter = {}, .layout = {}, .experts = false});
  if (!experts) return groups;
  RankGroup split{.matrices = {}, .parameter = {}, .layout = {}, .experts = true};
  std::map<std::string, std::pair<ExpertLayout, LayerExperts>> layers;  // by place
  for (const TensorInfo& t : model.tensors()) {
    if (!is_expert_of_adapter(t, fused)) continue;
    const ExpertName name = *split_expert_name(t.name);
    const ExpertLayout* layout = layout_of(name, fused);
    if (layout || as_parameters) {
      layers[name.place].first = layout ? *layout : usual;
      layers[name.place].second[name.linear][name.expert] = &t;
    } else {
      split.matrices.push_back({&t});
    }
  }
  for (const auto& [place, layer] : layers) {
    check_whole(place, layer.second);
    groups.push_back(parameter_group(place, layer.second, "gate_proj", "up_proj", layer.first));
    groups.push_back(parameter_group(place, layer.second, "down_proj", nullptr, layer.first));
  }
  if (!split.matrices.empty()) groups.push_back(std::move(split));
  return groups;
}

// gpt-oss's class says that its matrices are [inputs, outputs] (is_transposed), which PEFT heeds;
// Llama 4's does not say it, and PEFT takes its inputs for outputs.
ParameterFactors::ParameterFactors(const RankGroup& group, int64_t rank)
    : group_(group),
      rank_(rank),
      experts_(static_cast<int64_t>(group.matrices.size())),
      swapped_(group.layout.transposed && !group.layout.interleaved) {
  const int64_t rows = group.matrices[0].rows(), columns = group.matrices[0].columns();
  inputs = swapped_ ? rows : columns;
  outputs = swapped_ ? columns : rows;
  a.resize(static_cast<size_t>(experts_ * rank * inputs));
  b.resize(static_cast<size_t>(outputs * rank * experts_));
}

void ParameterFactors::put(int64_t expert, const std::vector<float>& own_a,
                           const std::vector<float>& own_b) {
  const AdapterMatrix& matrix = group_.matrices[static_cast<size_t>(expert)];
  const int64_t rows = matrix.rows(), half = rows / 2;
  std::vector<float> ordered = own_b;  // [rows, rank], its rows as they are stored
  if (matrix.up && group_.layout.interleaved) {
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t to = row < half ? 2 * row : 2 * (row - half) + 1;
      std::copy_n(own_b.begin() + row * rank_, rank_, ordered.begin() + to * rank_);
    }
  }
  const std::vector<float> right = swapped_ ? transposed(ordered, rows, rank_) : own_a;
  const std::vector<float> left = swapped_ ? transposed(own_a, rank_, matrix.columns()) : ordered;
  std::copy(right.begin(), right.end(), a.begin() + expert * rank_ * inputs);
  for (int64_t i = 0; i < outputs * rank_; ++i)
    b[static_cast<size_t>(i * experts_ + expert)] = left[static_cast<size_t>(i)];
}

}  // namespace lewis
