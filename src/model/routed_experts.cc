// Routed experts in the forward pass: the router's choice, expert by expert, the shared expert.
#include <algorithm>
#include <cmath>
#include <functional>
#include <future>
#include <limits>
#include <numeric>

#include "model/block_weights.h"
#include "model/transformer.h"

namespace lewis {
namespace {

// The `chosen` largest of `values`, of equals the first, at the beginning of `order`.
void choose(std::span<const float> values, int64_t chosen, std::span<int64_t> order) {
  std::iota(order.begin(), order.end(), int64_t{0});
  std::partial_sort(order.begin(), order.begin() + chosen, order.end(), [&](int64_t a, int64_t b) {
    return values[a] > values[b] || (values[a] == values[b] && a < b);
  });
}

void normalize(std::span<float> weights) {
  float sum = 0;
  for (const float weight : weights) sum += weight;
  for (float& weight : weights) weight /= sum;
}

void softmax(std::span<float> scores) {
  const float largest = *std::ranges::max_element(scores);
  float sum = 0;
  for (float& s : scores) sum += s = std::exp(s - largest);
  for (float& s : scores) s /= sum;
}

// What a group of experts is worth; the values change places.
float score_of(GroupScore kind, std::span<float> group) {
  if (kind == GroupScore::kBest || group.size() < 2) return *std::ranges::max_element(group);
  std::partial_sort(group.begin(), group.begin() + 2, group.end(), std::greater());
  return group[0] + group[1];
}

// Sets the values of all experts but those of the best groups to `out`.
void keep_best_groups(const ExpertsSpec& spec, std::span<float> values, float out) {
  if (spec.groups <= spec.chosen_groups) return;
  const size_t size = values.size() / static_cast<size_t>(spec.groups);
  std::vector<float> scores;
  std::vector<float> group(size);
  for (size_t first = 0; first < values.size(); first += size) {
    std::ranges::copy(values.subspan(first, size), group.begin());
    scores.push_back(score_of(spec.group_score, group));
  }
  std::vector<int64_t> order(scores.size());
  choose(scores, spec.chosen_groups, order);
  for (size_t i = static_cast<size_t>(spec.chosen_groups); i < order.size(); ++i)
    std::ranges::fill(values.subspan(static_cast<size_t>(order[i]) * size, size), out);
}

// Softmax over all experts; those with the largest probabilities are chosen.
void route_softmax(const ExpertsSpec& spec, std::span<float> scores, std::span<int64_t> order,
                   std::span<float> weights) {
  softmax(scores);
  keep_best_groups(spec, scores, 0);
  choose(scores, spec.chosen, order);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = scores[order[i]];
  if (spec.normalize) normalize(weights);
}

// Softmax over the chosen experts.
void route_chosen_softmax(const ExpertsSpec& spec, std::span<float> scores,
                          std::span<int64_t> order, std::span<float> weights) {
  choose(scores, spec.chosen, order);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = scores[order[i]];
  softmax(weights);
}

// DeepSeek-V3 (arXiv 2412.19437, section 2.1.2): the sigmoid weighs, the sigmoid + correction
// chooses.
void route_sigmoid(const ExpertsSpec& spec, std::span<const float> correction,
                   std::span<float> scores, std::span<int64_t> order, std::span<float> weights) {
  for (float& s : scores) s = 1.0f / (1.0f + std::exp(-s));
  std::vector<float> corrected(scores.begin(), scores.end());
  for (size_t i = 0; i < correction.size(); ++i) corrected[i] += correction[i];
  keep_best_groups(spec, corrected, -std::numeric_limits<float>::infinity());
  choose(corrected, spec.chosen, order);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = scores[order[i]];
  if (spec.normalize) normalize(weights);
}

// SparseMixer-v2 (arXiv 2409.12136): an expert's weight is its share of a softmax over the experts
// whose score is nearly as large, the best one left out when it comes to the second.
void route_sparse_mixer(const ExpertsSpec& spec, std::span<const float> scores,
                        std::span<int64_t> order, std::span<float> weights) {
  for (size_t place = 0; place < 2; ++place) {
    const auto is_left = [&](size_t i) {
      return place == 0 || static_cast<int64_t>(i) != order[0];
    };
    size_t best = is_left(0) ? 0 : 1;
    for (size_t i = 0; i < scores.size(); ++i) {
      if (is_left(i) && scores[i] > scores[best]) best = i;
    }
    float sum = 0;
    for (size_t i = 0; i < scores.size(); ++i) {
      const float scale = std::max(std::abs(scores[i]), scores[best]);
      const bool is_far = (scores[best] - scores[i]) / scale > 2 * spec.jitter;
      if (is_left(i) && !is_far) sum += std::exp(scores[i] - scores[best]);
    }
    order[place] = static_cast<int64_t>(best);
    weights[place] = 1 / sum;
  }
}

// The experts of one row and their weights, not scaled. `scores` are used up.
void route_row(const ExpertsSpec& spec, std::span<const float> correction, std::span<float> scores,
               std::span<int64_t> order, std::span<float> weights) {
  switch (spec.router) {
    case Router::kSoftmax:
      return route_softmax(spec, scores, order, weights);
    case Router::kChosenSoftmax:
      return route_chosen_softmax(spec, scores, order, weights);
    case Router::kSigmoid:
      return route_sigmoid(spec, correction, scores, order, weights);
    case Router::kSparseMixer:
      return route_sparse_mixer(spec, scores, order, weights);
  }
}

// scores [rows, experts]: the router's, used up.
std::vector<RoutedRows> route_rows(const ExpertsSpec& spec, std::span<const float> correction,
                                   int64_t rows, float* scores, Threads& threads) {
  const auto chosen = static_cast<size_t>(spec.chosen), count = static_cast<size_t>(spec.count);
  std::vector<int64_t> experts(static_cast<size_t>(rows) * chosen);
  std::vector<float> weights(experts.size());
  constexpr size_t kRows = 64;  // of one piece of work
  threads.run((static_cast<size_t>(rows) + kRows - 1) / kRows, [&](size_t piece) {
    std::vector<int64_t> order(count);
    const size_t end = std::min(static_cast<size_t>(rows), (piece + 1) * kRows);
    for (size_t r = piece * kRows; r < end; ++r) {
      const std::span its(&weights[r * chosen], chosen);
      route_row(spec, correction, {scores + r * count, count}, order, its);
      if (spec.scaling != 1) std::ranges::for_each(its, [&](float& w) { w *= spec.scaling; });
      std::copy_n(order.begin(), chosen, experts.begin() + static_cast<std::ptrdiff_t>(r * chosen));
    }
  });
  std::vector<RoutedRows> routed(count);
  for (size_t i = 0; i < experts.size(); ++i) {
    RoutedRows& expert = routed[static_cast<size_t>(experts[i])];
    expert.rows.push_back(static_cast<int64_t>(i / chosen));
    expert.weights.push_back(weights[i]);
  }
  for (RoutedRows& expert : routed) {
    if (!spec.scales_input) break;
    expert.in_weights = std::move(expert.weights);
    expert.weights.assign(expert.rows.size(), 1.0f);
  }
  return routed;
}

}  // namespace

std::vector<RoutedRows> Transformer::route(const BlockWeights& block, const ExpertsStep& step,
                                           int64_t rows, const float* x) const {
  float* scores = working_memory(block, step.scores, rows);
  router_scores(block, step, rows, x, scores);
  return choose_experts(block, step, rows, scores);
}

void Transformer::router_scores(const BlockWeights& block, const ExpertsStep& step, int64_t rows,
                                const float* x, float* scores) const {
  const Linear& router = block.linear(step.router);
  backend_.linear(*router.weight, router.bias, x, rows, scores);
}

std::vector<RoutedRows> Transformer::choose_experts(const BlockWeights& block,
                                                    const ExpertsStep& step, int64_t rows,
                                                    float* scores) const {
  std::span<const float> correction;
  if (step.correction != kNoIndex) correction = block.own[static_cast<size_t>(step.correction)];
  std::vector<RoutedRows> routed = route_rows(spec_.experts, correction, rows, scores, threads_);
  for (size_t e = 0; step.scales != kNoIndex && e < routed.size(); ++e) {
    for (float& w : routed[e].weights) w *= block.own[static_cast<size_t>(step.scales)][e];
  }
  return routed;
}

// The linear layers of an expert: the block's, or made of what was read.
MlpWeights Transformer::mlp_weights(const BlockWeights& block, const ExpertLinears& mlp,
                                    const StoredExpert& stored) const {
  MlpWeights weights;
  weights.own.reserve(3);  // pointers to them stay valid
  const auto find = [&](int index) -> const Linear* {
    if (index == kNoIndex) return nullptr;
    if (block.linear(index).weight) return &block.linear(index);
    const LinearLayer& linear = block.steps.linear(index);
    const std::span<const std::byte> bytes = stored.weights.at(index);
    weights.own.push_back(block.stored
                              ? keep_stored(linear, stored.pages, bytes)
                              : make_linear(linear, pack_stored(linear, bytes, block.edit)));
    return &weights.own.back();
  };
  weights.gate = find(mlp.gate);
  weights.up = find(mlp.up);
  weights.down = find(mlp.down);
  return weights;
}

// y [rows, hidden] = down(activation(gate(x)) * up(x)).
void Transformer::run_mlp(int64_t layer, const MlpWeights& weights, const float* x, int64_t rows,
                          float* inner, float* y,
                          const std::function<void(ConstMatrix)>& tap_inner) const {
  run_gated(layer, weights.gate, *weights.up, x, rows, inner);
  if (tap_inner) tap_inner({inner, rows, weights.down->weight->in});
  backend_.linear(*weights.down->weight, weights.down->bias, inner, rows, y);
}

void Transformer::expert_output(const BlockWeights& block, const ExpertsStep& step, int64_t expert,
                                int64_t rows, const float* x, float* y) const {
  const ExpertLinears& mlp = step.experts.at(static_cast<size_t>(expert));
  const StoredExpert stored = read_expert(block, mlp, std::make_shared<PageBuffer>());
  run_mlp(block.steps.layer, mlp_weights(block, mlp, stored), x, rows,
          working_memory(block, step.expert_inner, rows), y);
}

// Reads what the block lacks of the experts that rows are sent to, one expert ahead of those that
// compute.
class Transformer::ExpertReader {
 public:
  ExpertReader(const Transformer& model, const BlockWeights& block, const ExpertsStep& step,
               const std::vector<RoutedRows>& routed)
      : model_(model), block_(block), step_(step) {
    for (auto& pages : model.workspace_->experts) {
      if (!pages) pages = std::make_shared<PageBuffer>();
    }
    for (size_t e = 0; e < routed.size(); ++e) {
      if (!routed[e].rows.empty()) used_.push_back(e);
    }
    begin();
  }

  // Of the next expert that rows are sent to; those of the one before must have gone.
  MlpWeights next() {
    const StoredExpert stored = reading_.get();
    const ExpertLinears& mlp = step_.experts[used_[at_++]];
    begin();
    return model_.mlp_weights(block_, mlp, stored);
  }

 private:
  void begin() {
    if (at_ == used_.size()) return;
    const ExpertLinears& mlp = step_.experts[used_[at_]];
    const bool is_there = block_.linear(mlp.up).weight != nullptr;
    reading_ = std::async(is_there ? std::launch::deferred : std::launch::async,
                          [this, &mlp, pages = model_.workspace_->experts[at_ % 2]] {
                            return model_.read_expert(block_, mlp, pages);
                          });
  }

  const Transformer& model_;
  const BlockWeights& block_;
  const ExpertsStep& step_;
  std::vector<size_t> used_;
  size_t at_ = 0;  // into used_, of the expert that is being read
  std::future<StoredExpert> reading_;
};

// The experts' outputs are added in the order of the experts, then the shared expert's.
void Transformer::experts_output(const BlockWeights& block, const ExpertsStep& step, int64_t rows,
                                 const float* x, const float* routed_x, float* y,
                                 const TapFn& tap) const {
  const int64_t width = block.steps.width(step.routed_in);
  const std::vector<RoutedRows> routed = route(block, step, rows, x);
  float* inner = working_memory(block, step.expert_inner, rows);
  float* output = working_memory(block, step.expert_out, rows);
  float* gathered = working_memory(block, step.expert_in, rows);
  std::fill(y, y + rows * width, 0.0f);
  ExpertReader reader(*this, block, step, routed);
  for (size_t e = 0; e < routed.size(); ++e) {
    const auto& [its_rows, weights, in_weights] = routed[e];
    if (its_rows.empty()) continue;
    const auto count = static_cast<int64_t>(its_rows.size()), expert = static_cast<int64_t>(e);
    for (int64_t i = 0; i < count; ++i) {
      std::copy_n(routed_x + its_rows[i] * width, width, gathered + i * width);
      if (!in_weights.empty()) backend_.scale(gathered + i * width, in_weights[i], width);
    }
    if (tap) tap({step.expert_in, {gathered, count, width}, expert, its_rows});
    run_mlp(block.steps.layer, reader.next(), gathered, count, inner, output,
            [&](ConstMatrix values) {
              if (tap) tap({step.expert_inner, values, expert, its_rows});
            });
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t j = 0; j < width; ++j) {
        y[its_rows[i] * width + j] += output[i * width + j] * weights[i];
      }
    }
  }
  if (step.shared.up != kNoIndex) add_shared_expert(block, step, rows, x, y, tap);
}

// y [rows, hidden] += sigmoid(switch(x)) * shared expert(x).
void Transformer::add_shared_expert(const BlockWeights& block, const ExpertsStep& step,
                                    int64_t rows, const float* x, float* y,
                                    const TapFn& tap) const {
  const int64_t width = spec_.hidden;
  float* output = working_memory(block, step.expert_out, rows);
  run_mlp(block.steps.layer, mlp_weights(block, step.shared, {}), x, rows,
          working_memory(block, step.shared_inner, rows), output, [&](ConstMatrix inner) {
            if (tap) tap({step.shared_inner, inner, kDense, {}});
          });
  float* switches = working_memory(block, step.scores, rows);  // the router's scores are used up
  backend_.linear(*block.linear(step.shared_switch).weight, {}, x, rows, switches);
  for (int64_t r = 0; r < rows; ++r) {
    backend_.scale(output + r * width, 1.0f / (1.0f + std::exp(-switches[r])), width);
  }
  backend_.add(y, output, rows * width);
}

}  // namespace lewis
