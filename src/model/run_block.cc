// The one transformer block: attention and MLP or experts, each mechanism a branch on ModelSpec.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "model/block_weights.h"
#include "model/kv_cache.h"
#include "model/transformer.h"

namespace lewis {
namespace {

void check_rows(std::span<const SequenceRows> sequences, int64_t rows, const ModelSpec& spec,
                const std::string& label) {
  int64_t row = 0;
  for (const SequenceRows& s : sequences) {
    if (s.first_row != row || s.rows < 0 || (!s.cache && s.first_position != 0)) {
      throw failed_error("run_block: the sequences do not lie one after the other");
    }
    if (s.first_position + s.rows > spec.max_positions) {
      throw input_error(
          "{}: a sequence of {} tokens, but the model has {} positions (max_position_embeddings)",
          label, s.first_position + s.rows, spec.max_positions);
    }
    row += s.rows;
  }
  if (row != rows)
    throw failed_error("run_block: {} rows of hidden states, {} in the sequences", rows, row);
}

}  // namespace

std::optional<Tap> tap_of(const LinearLayer& linear) {
  const bool routed = linear.expert >= 0;
  switch (linear.role) {
    case LinearRole::kQuery:
    case LinearRole::kKey:
    case LinearRole::kValue:
      return Tap::kAttentionIn;
    case LinearRole::kOutput:
      return Tap::kAttentionOut;
    case LinearRole::kGate:
    case LinearRole::kUp:
      return routed ? Tap::kExpertIn : Tap::kMlpIn;
    case LinearRole::kSharedSwitch:
      return Tap::kMlpIn;
    case LinearRole::kDown:
      return routed                     ? Tap::kExpertDown
             : linear.expert == kShared ? Tap::kSharedDown
                                        : Tap::kMlpDown;
    case LinearRole::kRouter:
      break;
  }
  return std::nullopt;
}

// x [rows, hidden] itself where there is no such norm, else the normed rows in `out`.
const float* Transformer::normed(const Norm& norm, const float* x, int64_t rows, float* out) const {
  if (norm.weight.empty()) return x;
  if (spec_.norm.kind == NormKind::kRms) {
    backend_.rms_norm(x, rows, spec_.hidden, norm.weight, spec_.norm.epsilon, out);
  } else {
    backend_.layer_norm(x, rows, spec_.hidden, norm.weight, norm.bias, spec_.norm.epsilon, out);
  }
  return out;
}

// hidden += multiplier * norm(x), all [rows, hidden]; x is used up.
void Transformer::add_to_stream(const Norm& norm, float* x, int64_t rows, float* hidden) const {
  normed(norm, x, rows, x);
  add_output(x, rows, hidden);
}

void Transformer::add_output(float* x, int64_t rows, float* hidden) const {
  if (spec_.residual_multiplier != 1) {
    backend_.scale(x, spec_.residual_multiplier, rows * spec_.hidden);
  }
  backend_.add(hidden, x, rows * spec_.hidden);
}

void Transformer::run_block(const BlockWeights& block, std::span<const SequenceRows> sequences,
                            std::span<float> hidden, const TapFn& tap) const {
  const int64_t rows = rows_of(hidden);
  check_rows(sequences, rows, spec_, source_.label());
  Workspace& w = *workspace_;
  float* stream = hidden.data();
  float* buffer = w.normed.get(rows * spec_.hidden);
  float* projected = w.projected.get(rows * spec_.hidden);
  const float* x = normed(block.before_attention, stream, rows, buffer);
  if (tap) tap({Tap::kAttentionIn, {x, rows, spec_.hidden}});
  attend(block, sequences, rows, x, projected, tap);
  add_to_stream(block.after_attention, projected, rows, stream);
  if (!spec_.parallel) x = normed(block.before_mlp, stream, rows, buffer);
  if (tap) tap({Tap::kMlpIn, {x, rows, spec_.hidden}});
  if (spec_.layer[static_cast<size_t>(block.layer)].routed) {
    run_experts(block, rows, x, projected, tap);
  } else {
    run_mlp(block.mlp, x, rows, projected, [&](ConstMatrix inner) {
      if (tap) tap({Tap::kMlpDown, inner});
    });
  }
  add_to_stream(block.after_mlp, projected, rows, stream);
}

// x [rows, hidden] = norm(hidden), or hidden itself.
void Transformer::input_of(const Norm& norm, std::span<const float> hidden, float* x) const {
  const float* values = normed(norm, hidden.data(), rows_of(hidden), x);
  if (values != x) std::ranges::copy(hidden, x);
}

void Transformer::attention_input(const BlockWeights& block, std::span<const float> hidden,
                                  float* x) const {
  input_of(block.before_attention, hidden, x);
}

void Transformer::mlp_input(const BlockWeights& block, std::span<const float> hidden,
                            float* x) const {
  input_of(block.before_mlp, hidden, x);
}

void Transformer::norm_attention(const BlockWeights& block, int64_t rows, float* projected) const {
  normed(block.after_attention, projected, rows, projected);
}

void Transformer::norm_mlp(const BlockWeights& block, int64_t rows, float* projected) const {
  normed(block.after_mlp, projected, rows, projected);
}

void Transformer::activate(float* gate, const float* up, int64_t n) const {
  backend_.activate(spec_.activation, gate, up, n);
}

// Rope of q [rows, heads, head_dim] and k [rows, kv_heads, head_dim].
void Transformer::encode_positions(const LayerSpec& layer, std::span<const SequenceRows> sequences,
                                   float* q, float* k) const {
  if (layer.rope == kNoRope) return;
  const RopeSpec& rope = spec_.ropes[static_cast<size_t>(layer.rope)];
  std::vector<int64_t> positions;
  bool all_short = true;
  for (const SequenceRows& s : sequences) {
    for (int64_t i = 0; i < s.rows; ++i) positions.push_back(s.first_position + i);
    all_short = all_short && s.first_position + s.rows <= rope.short_length;
  }
  const auto turn = [&](int64_t first, int64_t rows, const std::vector<float>& frequency) {
    const auto at =
        std::span(positions).subspan(static_cast<size_t>(first), static_cast<size_t>(rows));
    for (const auto& [x, heads] : {std::pair(q, spec_.heads), std::pair(k, spec_.kv_heads)}) {
      backend_.rope(x + first * heads * spec_.head_dim, rows, heads, spec_.head_dim, at, frequency,
                    rope.attention_factor, rope.pairs);
    }
  };
  if (all_short) {
    turn(0, static_cast<int64_t>(positions.size()), rope.inverse_frequency);
    return;
  }
  for (const SequenceRows& s : sequences) {
    turn(s.first_row, s.rows, rope_frequencies(rope, s.first_position + s.rows));
  }
}

// mixed [rows, heads, head_dim] = attention(rope(norm(q)), rope(norm(k)), v).
void Transformer::mix(const BlockWeights& block, std::span<const SequenceRows> sequences,
                      int64_t rows, float* q, float* k, const float* v, float* mixed) const {
  const int64_t width = spec_.heads * spec_.head_dim, kv_width = spec_.kv_heads * spec_.head_dim;
  const LayerSpec& layer = spec_.layer[static_cast<size_t>(block.layer)];
  if (spec_.qk_norm != QkNorm::kNone) {
    const int64_t q_norm = qk_norm_width(spec_, spec_.heads);
    const int64_t k_norm = qk_norm_width(spec_, spec_.kv_heads);
    backend_.rms_norm(q, rows * width / q_norm, q_norm, block.query_norm.weight, spec_.norm.epsilon,
                      q);
    backend_.rms_norm(k, rows * kv_width / k_norm, k_norm, block.key_norm.weight,
                      spec_.norm.epsilon, k);
  }
  encode_positions(layer, sequences, q, k);

  std::vector<AttentionRows> attention;
  for (const SequenceRows& s : sequences) {
    const float *keys = k + s.first_row * kv_width, *values = v + s.first_row * kv_width;
    if (s.cache) {
      s.cache->append(block.layer, s.first_position, keys, values, s.rows);
      keys = s.cache->keys(block.layer);
      values = s.cache->values(block.layer);
    }
    attention.push_back({s.first_row, s.rows, keys, values, s.first_position});
  }
  backend_.attention({spec_.heads, spec_.kv_heads, spec_.head_dim, spec_.attention_scale,
                      layer.window, spec_.attention_softcap},
                     attention, q, mixed);
}

// y [rows, hidden] = o(mix(q, k, v)), q, k, v of x.
void Transformer::attend(const BlockWeights& block, std::span<const SequenceRows> sequences,
                         int64_t rows, const float* x, float* y, const TapFn& tap) const {
  const int64_t width = spec_.heads * spec_.head_dim, kv_width = spec_.kv_heads * spec_.head_dim;
  Workspace& w = *workspace_;
  float* q = w.q.get(rows * width);                                    // [rows, heads, head_dim]
  float *k = w.k.get(rows * kv_width), *v = w.v.get(rows * kv_width);  // [rows, kv_heads, head_dim]
  backend_.linear(std::array{LinearCall{*block.q.weight, block.q.bias, q},
                             LinearCall{*block.k.weight, block.k.bias, k},
                             LinearCall{*block.v.weight, block.v.bias, v}},
                  x, rows);
  float* mixed = w.mixed.get(rows * width);  // [rows, heads, head_dim]
  mix(block, sequences, rows, q, k, v, mixed);
  if (tap) tap({Tap::kAttentionOut, {mixed, rows, width}});
  backend_.linear(*block.o.weight, block.o.bias, mixed, rows, y);
}

// y [rows, hidden] = down(act(gate(x)) * up(x)), or down(act(up(x))) without a gate.
void Transformer::run_mlp(const MlpWeights& mlp, const float* x, int64_t rows, float* y,
                          const std::function<void(ConstMatrix)>& tap_down) const {
  Workspace& w = *workspace_;
  const int64_t width = mlp.up.weight->out;
  float* inner = w.inner.get(rows * width);  // [rows, width]
  if (mlp.gate.weight) {
    const Gate gate{*mlp.gate.weight, mlp.gate.bias, spec_.activation};
    const LinearCall call{*mlp.up.weight, mlp.up.bias, inner, &gate};
    backend_.linear(std::span(&call, 1), x, rows);
  } else {
    backend_.linear(*mlp.up.weight, mlp.up.bias, x, rows, inner);
    backend_.activate(spec_.activation, inner, nullptr, rows * width);
  }
  tap_down({inner, rows, width});
  backend_.linear(*mlp.down.weight, mlp.down.bias, inner, rows, y);
}

namespace {

// The experts of one row: those with the largest probabilities (softmax over all experts), of
// equals the first.
void route_row(const ExpertsSpec& spec, std::span<float> scores, std::span<int64_t> order,
               std::span<float> weights) {
  const float largest = *std::ranges::max_element(scores);
  float sum = 0;
  for (float& s : scores) sum += s = std::exp(s - largest);
  for (float& s : scores) s /= sum;
  std::iota(order.begin(), order.end(), int64_t{0});
  std::partial_sort(order.begin(), order.begin() + spec.chosen, order.end(),
                    [&](int64_t a, int64_t b) {
                      return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
                    });
  float chosen = 0;
  for (int64_t i = 0; i < spec.chosen; ++i) chosen += weights[i] = scores[order[i]];
  if (!spec.normalize) return;
  for (float& weight : weights) weight /= chosen;
}

// scores [rows, experts]: the router's, used up.
std::vector<RoutedRows> route_rows(const ExpertsSpec& spec, int64_t rows, float* scores,
                                   Threads& threads) {
  const auto chosen = static_cast<size_t>(spec.chosen), count = static_cast<size_t>(spec.count);
  std::vector<int64_t> experts(static_cast<size_t>(rows) * chosen);
  std::vector<float> weights(experts.size());
  constexpr size_t kRows = 64;  // of one piece of work
  threads.run((static_cast<size_t>(rows) + kRows - 1) / kRows, [&](size_t piece) {
    std::vector<int64_t> order(count);
    const size_t end = std::min(static_cast<size_t>(rows), (piece + 1) * kRows);
    for (size_t r = piece * kRows; r < end; ++r) {
      route_row(spec, {scores + r * count, count}, order, {&weights[r * chosen], chosen});
      std::copy_n(order.begin(), chosen, experts.begin() + static_cast<std::ptrdiff_t>(r * chosen));
    }
  });
  std::vector<RoutedRows> routed(count);
  for (size_t i = 0; i < experts.size(); ++i) {
    RoutedRows& expert = routed[static_cast<size_t>(experts[i])];
    expert.rows.push_back(static_cast<int64_t>(i / chosen));
    expert.weights.push_back(weights[i]);
  }
  return routed;
}

}  // namespace

std::vector<RoutedRows> Transformer::route(const BlockWeights& block, int64_t rows,
                                           const float* x) const {
  float* scores = workspace_->router.get(rows * spec_.experts.count);
  backend_.linear(*block.router.weight, {}, x, rows, scores);
  return route_rows(spec_.experts, rows, scores, threads_);
}

void Transformer::expert_output(const BlockWeights& block, int64_t expert, int64_t rows,
                                const float* x, float* y) const {
  run_mlp(block.experts.at(static_cast<size_t>(expert)), x, rows, y, [](ConstMatrix) {});
}

void Transformer::mlp_output(const BlockWeights& block, int64_t rows, const float* x,
                             float* y) const {
  if (spec_.layer[static_cast<size_t>(block.layer)].routed) {
    run_experts(block, rows, x, y, {});
  } else {
    run_mlp(block.mlp, x, rows, y, [](ConstMatrix) {});
  }
}

// y [rows, hidden] = sum over the chosen experts of weight * expert(x), in the order of the
// experts, + the shared expert's.
void Transformer::run_experts(const BlockWeights& block, int64_t rows, const float* x, float* y,
                              const TapFn& tap) const {
  Workspace& w = *workspace_;
  const int64_t width = spec_.hidden;
  const std::vector<RoutedRows> routed = route(block, rows, x);
  float* output = w.one.get(rows * width);  // [rows of the expert, hidden]
  std::fill(y, y + rows * width, 0.0f);
  for (size_t e = 0; e < routed.size(); ++e) {
    const auto& [its_rows, weights] = routed[e];
    if (its_rows.empty()) continue;
    const auto count = static_cast<int64_t>(its_rows.size()), expert = static_cast<int64_t>(e);
    float* gathered = w.gathered.get(rows * width);
    for (int64_t i = 0; i < count; ++i) {
      std::copy_n(x + its_rows[i] * width, width, gathered + i * width);
    }
    if (tap) tap({Tap::kExpertIn, {gathered, count, width}, expert, its_rows});
    run_mlp(block.experts[e], gathered, count, output, [&](ConstMatrix inner) {
      if (tap) tap({Tap::kExpertDown, inner, expert, its_rows});
    });
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t j = 0; j < width; ++j) {
        y[its_rows[i] * width + j] += output[i * width + j] * weights[i];
      }
    }
  }
  if (spec_.experts.shared_intermediate) add_shared_expert(block, rows, x, y, tap);
}

// y [rows, hidden] += sigmoid(switch(x)) * shared expert(x).
void Transformer::add_shared_expert(const BlockWeights& block, int64_t rows, const float* x,
                                    float* y, const TapFn& tap) const {
  Workspace& w = *workspace_;
  const int64_t width = spec_.hidden;
  float* output = w.one.get(rows * width);  // [rows, hidden]
  run_mlp(block.shared, x, rows, output, [&](ConstMatrix inner) {
    if (tap) tap({Tap::kSharedDown, inner});
  });
  float* switches = w.router.get(rows);
  backend_.linear(*block.shared_switch.weight, {}, x, rows, switches);
  for (int64_t r = 0; r < rows; ++r) {
    backend_.scale(output + r * width, 1.0f / (1.0f + std::exp(-switches[r])), width);
  }
  backend_.add(y, output, rows * width);
}

}  // namespace lewis
