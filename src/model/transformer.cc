#include "model/transformer.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numeric>
#include <set>

#include "base/error.h"
#include "compute/float_buffer.h"
#include "model/kv_cache.h"

namespace lewis {
namespace {

std::string embedding_name(const ModelSpec& spec) { return spec.prefix + "embed_tokens.weight"; }
std::string final_norm_name(const ModelSpec& spec) { return spec.prefix + "norm"; }
std::string head_name(const ModelSpec& spec) { return spec.head + "weight"; }
std::string in_block(const ModelSpec& spec, int64_t layer, std::string_view name) {
  return fmt::format("{}layers.{}.{}", spec.prefix, layer, name);
}
constexpr std::string_view kQueryNorm = "self_attn.q_norm", kKeyNorm = "self_attn.k_norm";

// Values of one query or key row that the norm of queries and keys takes together.
int64_t qk_norm_width(const ModelSpec& spec, int64_t heads) {
  return spec.qk_norm == QkNorm::kWhole ? heads * spec.head_dim : spec.head_dim;
}

// Half and single precision mark NaN and infinity with an exponent of all ones.
template <typename T>
bool all_finite_bits(const std::byte* data, size_t n, T exponent) {
  bool finite = true;
  for (size_t i = 0; i < n; ++i) {
    T bits;
    std::memcpy(&bits, data + i * sizeof(T), sizeof(T));
    finite &= (bits & exponent) != exponent;
  }
  return finite;
}

bool stored_finite(DType dtype, std::span<const std::byte> bytes, Threads& threads) {
  constexpr size_t kPiece = 1 << 21;
  std::atomic<bool> finite = true;
  threads.run((bytes.size() + kPiece - 1) / kPiece, [&](size_t i) {
    const auto piece = bytes.subspan(i * kPiece, std::min(kPiece, bytes.size() - i * kPiece));
    const size_t n = piece.size() / dtype_size(dtype);
    const bool ok = dtype == DType::kF32    ? all_finite_bits<uint32_t>(piece.data(), n, 0x7f800000)
                    : dtype == DType::kBF16 ? all_finite_bits<uint16_t>(piece.data(), n, 0x7f80)
                                            : all_finite_bits<uint16_t>(piece.data(), n, 0x7c00);
    if (!ok) finite = false;
  });
  return finite;
}

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

struct Norm {
  std::vector<float> weight, bias;  // both empty: there is no such norm
};

struct Linear {
  std::unique_ptr<PackedWeight> weight;  // [out, in]
  std::vector<float> bias;               // [out], or empty
};

struct MlpWeights {
  Linear gate, up, down;  // some families have no gate
};

struct BlockWeights {
  int64_t layer = 0;
  Norm before_attention, after_attention, before_mlp, after_mlp;  // [hidden]
  Norm query_norm, key_norm;
  Linear q, k, v, o;
  MlpWeights mlp, shared;  // shared: the expert that every token goes through
  Linear router, shared_switch;
  std::vector<MlpWeights> experts;
};

struct Transformer::Ends {
  std::vector<std::byte> embedding;    // [vocab, hidden] as stored
  Norm norm;                           // [hidden]
  std::unique_ptr<PackedWeight> head;  // [vocab, hidden]
};

struct Transformer::Workspace {
  FloatBuffer normed, projected;  // [rows, hidden]
  FloatBuffer q, mixed;           // [rows, heads, head_dim]
  FloatBuffer k, v;               // [rows, kv_heads, head_dim]
  FloatBuffer gate, up;           // [rows, intermediate]
  FloatBuffer last;               // of head(): [rows, hidden]
  FloatBuffer router;             // [rows, experts]
  FloatBuffer gathered, one;      // of one expert: input and output [its rows, hidden]
};

Transformer::Transformer(const TensorSource& source, ModelSpec spec, Backend& backend,
                         Threads& threads)
    : source_(source),
      spec_(locate_tensors(std::move(spec), source)),
      backend_(backend),
      threads_(threads),
      tied_head_(spec_.tied_head || !source.find(head_name(spec_))),
      ends_(std::make_unique<Ends>()),
      workspace_(std::make_unique<Workspace>()) {
  check_tensors();
}

Transformer::~Transformer() = default;

void Transformer::check_tensors() const {
  std::set<std::string, std::less<>> known;
  const auto expect = [&](const std::string& name, const Shape& shape) {
    const TensorInfo& tensor = source_.get(name);
    if (tensor.shape != shape) {
      throw input_error("{}: tensor {} has shape {}, config.json says {}", source_.label(), name,
                        to_string(tensor.shape), to_string(shape));
    }
    if (!is_arithmetic(tensor.dtype)) {
      throw input_error("{}: tensor {} is {}, expected F32, F16 or BF16", source_.label(), name,
                        dtype_name(tensor.dtype));
    }
    known.insert(name);
  };
  const auto expect_norm = [&](const std::string& name, int64_t width, bool bias) {
    expect(name + ".weight", {width});
    if (bias) expect(name + ".bias", {width});
  };
  expect(embedding_name(spec_), {spec_.vocab, spec_.hidden});
  expect_norm(final_norm_name(spec_), spec_.hidden, spec_.norm.bias);
  if (!tied_head_) expect(head_name(spec_), {spec_.vocab, spec_.hidden});
  known.insert(head_name(spec_));
  for (int64_t layer = 0; layer < spec_.layers; ++layer) {
    const BlockNorms& n = spec_.norms;
    for (const auto& name : {n.before_attention, n.after_attention, n.before_mlp, n.after_mlp}) {
      if (name.empty()) continue;
      expect_norm(in_block(spec_, layer, name), spec_.hidden, spec_.norm.bias);
    }
    if (spec_.qk_norm != QkNorm::kNone) {
      expect_norm(in_block(spec_, layer, kQueryNorm), qk_norm_width(spec_, spec_.heads), false);
      expect_norm(in_block(spec_, layer, kKeyNorm), qk_norm_width(spec_, spec_.kv_heads), false);
    }
    for (const LinearLayer& linear : linear_layers(spec_, layer)) {
      if (linear.first_row != 0) continue;  // the tensor has been met
      expect(linear.tensor, linear.shape);
      if (!linear.bias.empty()) expect(linear.bias, {linear.shape[0]});
    }
  }
  for (const TensorInfo& tensor : source_.tensors()) {
    const std::string_view name = tensor.name;
    const bool ours = name.starts_with(spec_.prefix) || name.starts_with(spec_.head);
    // Old checkpoints store what follows from config.json.
    if (ours && !known.contains(name) && !name.ends_with("rotary_emb.inv_freq")) {
      throw input_error(
          "{}: tensor {} has no place in a {} of {} layers as config.json describes it",
          source_.label(), name, spec_.model_type, spec_.layers);
    }
  }
}

// rows [first_row, first_row + rows) of the tensor as one matrix.
std::vector<std::byte> Transformer::read_stored(const TensorInfo& tensor, int64_t first_row,
                                                int64_t rows) const {
  const int64_t width = tensor.shape.back();
  std::vector<std::byte> bytes(static_cast<size_t>(rows * width) * dtype_size(tensor.dtype));
  source_.read(tensor, first_row * width, bytes);
  if (!stored_finite(tensor.dtype, bytes, threads_)) {
    throw input_error("{}: tensor {} holds a value that is not finite (NaN or infinity)",
                      source_.label(), tensor.name);
  }
  return bytes;
}

void Transformer::load_embedding() const {
  if (!ends_->embedding.empty()) return;
  ends_->embedding = read_stored(source_.get(embedding_name(spec_)), 0, spec_.vocab);
}

void Transformer::embed(std::span<const int32_t> ids, std::span<float> hidden) const {
  load_embedding();
  const DType dtype = source_.get(embedding_name(spec_)).dtype;
  const auto width = static_cast<size_t>(spec_.hidden);
  if (hidden.size() != ids.size() * width)
    throw failed_error("embed: {} values for {} ids", hidden.size(), ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= spec_.vocab) {
      throw input_error("{}: token id {} (token {} of the input) is outside the vocabulary of {}",
                        source_.label(), ids[i], i, spec_.vocab);
    }
    const std::byte* row =
        ends_->embedding.data() + static_cast<size_t>(ids[i]) * width * dtype_size(dtype);
    widen(dtype, row, hidden.subspan(i * width, width));
  }
  if (spec_.embedding_multiplier != 1) {
    backend_.scale(hidden.data(), spec_.embedding_multiplier, static_cast<int64_t>(hidden.size()));
  }
}

Norm Transformer::load_norm(const std::string& name, bool bias) const {
  Norm norm;
  norm.weight = source_.read_floats(source_.get(name + ".weight"));
  if (bias) norm.bias = source_.read_floats(source_.get(name + ".bias"));
  if (spec_.norm.plus_one) {
    for (float& w : norm.weight) w += 1;
  }
  return norm;
}

void Transformer::load_norms(BlockWeights& block) const {
  const auto load = [&](std::string_view name, bool bias) {
    return name.empty() ? Norm() : load_norm(in_block(spec_, block.layer, name), bias);
  };
  block.before_attention = load(spec_.norms.before_attention, spec_.norm.bias);
  block.after_attention = load(spec_.norms.after_attention, spec_.norm.bias);
  block.before_mlp = load(spec_.norms.before_mlp, spec_.norm.bias);
  block.after_mlp = load(spec_.norms.after_mlp, spec_.norm.bias);
  if (spec_.qk_norm == QkNorm::kNone) return;
  block.query_norm = load(kQueryNorm, false);
  block.key_norm = load(kKeyNorm, false);
}

namespace {

Linear& place_of(const LinearLayer& linear, BlockWeights& block) {
  MlpWeights& mlp = linear.expert == kDense    ? block.mlp
                    : linear.expert == kShared ? block.shared
                                               : block.experts[static_cast<size_t>(linear.expert)];
  switch (linear.role) {
    case LinearRole::kQuery:
      return block.q;
    case LinearRole::kKey:
      return block.k;
    case LinearRole::kValue:
      return block.v;
    case LinearRole::kOutput:
      return block.o;
    case LinearRole::kGate:
      return mlp.gate;
    case LinearRole::kUp:
      return mlp.up;
    case LinearRole::kDown:
      return mlp.down;
    case LinearRole::kRouter:
      return block.router;
    case LinearRole::kSharedSwitch:
      return block.shared_switch;
  }
  throw failed_error("{}: a linear layer of no known role", linear.name);
}

}  // namespace

void Transformer::load_linear(const LinearLayer& linear, const WeightEdit& edit,
                              BlockWeights& block) const {
  const TensorInfo& tensor = source_.get(linear.tensor);
  std::vector<std::byte> bytes = read_stored(tensor, linear.first_row, linear.out);
  DType dtype = tensor.dtype;
  if (edit) {
    std::vector<float> values(static_cast<size_t>(linear.out * linear.in));
    widen(dtype, bytes.data(), values);
    edit(linear.name, values, linear.out, linear.in);
    const auto edited = std::as_bytes(std::span(values));
    bytes.assign(edited.begin(), edited.end());
    dtype = DType::kF32;
  }
  Linear& place = place_of(linear, block);
  place.weight = backend_.pack(dtype, bytes.data(), linear.out, linear.in);
  if (linear.bias.empty()) return;
  const std::vector<float> bias = source_.read_floats(source_.get(linear.bias));
  place.bias.assign(bias.begin() + linear.first_row, bias.begin() + linear.first_row + linear.out);
}

std::shared_ptr<const BlockWeights> Transformer::load_block(int64_t layer,
                                                            const WeightEdit& edit) const {
  if (layer < 0 || layer >= spec_.layers) throw failed_error("load_block: no layer {}", layer);
  auto block = std::make_shared<BlockWeights>();
  block->layer = layer;
  block->experts.resize(static_cast<size_t>(spec_.experts.count));
  load_norms(*block);
  for (const LinearLayer& linear : linear_layers(spec_, layer)) load_linear(linear, edit, *block);
  return block;
}

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
  if (spec_.residual_multiplier != 1) {
    backend_.scale(x, spec_.residual_multiplier, rows * spec_.hidden);
  }
  backend_.add(hidden, x, rows * spec_.hidden);
}

void Transformer::run_block(const BlockWeights& block, std::span<const SequenceRows> sequences,
                            std::span<float> hidden, const TapFn& tap) const {
  const int64_t rows = static_cast<int64_t>(hidden.size()) / spec_.hidden;
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

// y [rows, hidden] = o(attention(rope(q), rope(k), v)), q, k, v of x.
void Transformer::attend(const BlockWeights& block, std::span<const SequenceRows> sequences,
                         int64_t rows, const float* x, float* y, const TapFn& tap) const {
  const int64_t width = spec_.heads * spec_.head_dim, kv_width = spec_.kv_heads * spec_.head_dim;
  const LayerSpec& layer = spec_.layer[static_cast<size_t>(block.layer)];
  Workspace& w = *workspace_;
  float* q = w.q.get(rows * width);                                    // [rows, heads, head_dim]
  float *k = w.k.get(rows * kv_width), *v = w.v.get(rows * kv_width);  // [rows, kv_heads, head_dim]
  backend_.linear(*block.q.weight, block.q.bias, x, rows, q);
  backend_.linear(*block.k.weight, block.k.bias, x, rows, k);
  backend_.linear(*block.v.weight, block.v.bias, x, rows, v);
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
  float* mixed = w.mixed.get(rows * width);  // [rows, heads, head_dim]
  backend_.attention({spec_.heads, spec_.kv_heads, spec_.head_dim, spec_.attention_scale,
                      layer.window, spec_.attention_softcap},
                     attention, q, mixed);
  if (tap) tap({Tap::kAttentionOut, {mixed, rows, width}});
  backend_.linear(*block.o.weight, block.o.bias, mixed, rows, y);
}

// y [rows, hidden] = down(act(gate(x)) * up(x)), or down(act(up(x))) without a gate.
void Transformer::run_mlp(const MlpWeights& mlp, const float* x, int64_t rows, float* y,
                          const std::function<void(ConstMatrix)>& tap_down) const {
  Workspace& w = *workspace_;
  const int64_t width = mlp.up.weight->out;
  float* inner = w.gate.get(rows * width);  // [rows, width]
  if (mlp.gate.weight) {
    float* up = w.up.get(rows * width);  // [rows, width]
    backend_.linear(*mlp.gate.weight, mlp.gate.bias, x, rows, inner);
    backend_.linear(*mlp.up.weight, mlp.up.bias, x, rows, up);
    backend_.activate(spec_.activation, inner, up, rows * width);
  } else {
    backend_.linear(*mlp.up.weight, mlp.up.bias, x, rows, inner);
    backend_.activate(spec_.activation, inner, nullptr, rows * width);
  }
  tap_down({inner, rows, width});
  backend_.linear(*mlp.down.weight, mlp.down.bias, inner, rows, y);
}

namespace {

// Which rows an expert sees, ascending, and with what weight.
struct Routed {
  std::vector<int64_t> rows;
  std::vector<float> weights;
};

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
std::vector<Routed> route(const ExpertsSpec& spec, int64_t rows, float* scores, Threads& threads) {
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
  std::vector<Routed> routed(count);
  for (size_t i = 0; i < experts.size(); ++i) {
    Routed& expert = routed[static_cast<size_t>(experts[i])];
    expert.rows.push_back(static_cast<int64_t>(i / chosen));
    expert.weights.push_back(weights[i]);
  }
  return routed;
}

}  // namespace

// y [rows, hidden] = sum over the chosen experts of weight * expert(x), in the order of the
// experts, + sigmoid(switch(x)) * shared expert(x).
void Transformer::run_experts(const BlockWeights& block, int64_t rows, const float* x, float* y,
                              const TapFn& tap) const {
  Workspace& w = *workspace_;
  const int64_t width = spec_.hidden;
  float* scores = w.router.get(rows * spec_.experts.count);
  backend_.linear(*block.router.weight, {}, x, rows, scores);
  const std::vector<Routed> routed = route(spec_.experts, rows, scores, threads_);
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
  if (!spec_.experts.shared_intermediate) return;
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

void Transformer::load_head() const {
  if (ends_->head) return;
  if (tied_head_) load_embedding();
  const TensorInfo& tensor = source_.get(tied_head_ ? embedding_name(spec_) : head_name(spec_));
  const auto own = tied_head_ ? std::vector<std::byte>() : read_stored(tensor, 0, spec_.vocab);
  ends_->head = backend_.pack(tensor.dtype, (tied_head_ ? ends_->embedding : own).data(),
                              spec_.vocab, spec_.hidden);
  ends_->norm = load_norm(final_norm_name(spec_), spec_.norm.bias);
}

void Transformer::head(std::span<const float> hidden, std::span<const int64_t> rows,
                       std::span<float> logits) const {
  if (logits.size() != rows.size() * static_cast<size_t>(spec_.vocab)) {
    throw failed_error("head: {} logits for {} rows", logits.size(), rows.size());
  }
  load_head();
  const auto count = static_cast<int64_t>(rows.size());
  float* chosen = workspace_->last.get(count * spec_.hidden);  // [rows.size(), hidden]
  for (int64_t i = 0; i < count; ++i) {
    const auto row =
        hidden.subspan(static_cast<size_t>(rows[static_cast<size_t>(i)] * spec_.hidden),
                       static_cast<size_t>(spec_.hidden));
    std::copy(row.begin(), row.end(), chosen + i * spec_.hidden);
  }
  normed(ends_->norm, chosen, count, chosen);
  backend_.linear(*ends_->head, {}, chosen, count, logits.data());
  const int64_t values = count * spec_.vocab;
  if (spec_.logit_multiplier != 1) backend_.scale(logits.data(), spec_.logit_multiplier, values);
  if (spec_.logit_softcap != 0) backend_.softcap(logits.data(), spec_.logit_softcap, values);
}

}  // namespace lewis
