#include "model/transformer.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <set>

#include "base/error.h"
#include "compute/float_buffer.h"
#include "model/kv_cache.h"

namespace lewis {
namespace {

struct Linear {
  std::unique_ptr<PackedWeight> weight;  // [out, in]
  std::vector<float> bias;               // [out], or empty
};

std::string embedding_name(const ModelSpec& spec) { return spec.prefix + "embed_tokens.weight"; }
std::string final_norm_name(const ModelSpec& spec) { return spec.prefix + "norm.weight"; }
std::string norm_name(const ModelSpec& spec, int64_t layer, std::string_view norm) {
  return fmt::format("{}layers.{}.{}.weight", spec.prefix, layer, norm);
}
constexpr std::string_view kHead = "lm_head.weight";
constexpr std::string_view kAttentionNorm = "input_layernorm";
constexpr std::string_view kMlpNorm = "post_attention_layernorm";

struct LinearShape {
  int64_t out, in;
  bool bias;
};
// In the order of linear_names: q, k, v, o, gate, up, down.
std::vector<LinearShape> linear_shapes(const ModelSpec& s) {
  const int64_t q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  return {{q, s.hidden, s.qkv_bias},
          {kv, s.hidden, s.qkv_bias},
          {kv, s.hidden, s.qkv_bias},
          {s.hidden, q, s.o_bias},
          {s.intermediate, s.hidden, s.mlp_bias},
          {s.intermediate, s.hidden, s.mlp_bias},
          {s.hidden, s.intermediate, s.mlp_bias}};
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

struct BlockWeights {
  int64_t layer = 0;
  std::vector<float> attention_norm, mlp_norm;  // [hidden]
  Linear q, k, v, o, gate, up, down;
};

struct Transformer::Ends {
  std::vector<std::byte> embedding;    // [vocab, hidden] as stored
  std::vector<float> norm;             // [hidden]
  std::unique_ptr<PackedWeight> head;  // [vocab, hidden]
};

struct Transformer::Workspace {
  FloatBuffer normed, projected;  // [rows, hidden]
  FloatBuffer q, mixed;           // [rows, heads, head_dim]
  FloatBuffer k, v;               // [rows, kv_heads, head_dim]
  FloatBuffer gate, up;           // [rows, intermediate]
  FloatBuffer last;               // of head(): [rows, hidden]
};

Transformer::Transformer(const TensorSource& source, ModelSpec spec, Backend& backend,
                         Threads& threads)
    : source_(source),
      spec_(std::move(spec)),
      backend_(backend),
      threads_(threads),
      tied_head_(spec_.tied_head || !source.find(kHead)),
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
  expect(embedding_name(spec_), {spec_.vocab, spec_.hidden});
  expect(final_norm_name(spec_), {spec_.hidden});
  if (!tied_head_) expect(std::string(kHead), {spec_.vocab, spec_.hidden});
  known.insert(std::string(kHead));
  const auto shapes = linear_shapes(spec_);
  for (int64_t layer = 0; layer < spec_.layers; ++layer) {
    expect(norm_name(spec_, layer, kAttentionNorm), {spec_.hidden});
    expect(norm_name(spec_, layer, kMlpNorm), {spec_.hidden});
    const auto names = linear_names(spec_, layer);
    for (size_t i = 0; i < names.size(); ++i) {
      expect(names[i] + ".weight", {shapes[i].out, shapes[i].in});
      if (shapes[i].bias) expect(names[i] + ".bias", {shapes[i].out});
    }
  }
  for (const TensorInfo& tensor : source_.tensors()) {
    const std::string_view name = tensor.name;
    const bool ours = name.starts_with(spec_.prefix) || name.starts_with("lm_head.");
    // Old checkpoints store what follows from config.json.
    if (ours && !known.contains(name) && !name.ends_with("rotary_emb.inv_freq")) {
      throw input_error(
          "{}: tensor {} has no place in a {} of {} layers as config.json describes it",
          source_.label(), name, spec_.model_type, spec_.layers);
    }
  }
}

std::vector<std::byte> Transformer::read_stored(const TensorInfo& tensor) const {
  std::vector<std::byte> bytes(byte_size(tensor));
  source_.read(tensor, 0, bytes);
  if (!stored_finite(tensor.dtype, bytes, threads_)) {
    throw input_error("{}: tensor {} holds a value that is not finite (NaN or infinity)",
                      source_.label(), tensor.name);
  }
  return bytes;
}

void Transformer::load_embedding() const {
  if (ends_->embedding.empty()) ends_->embedding = read_stored(source_.get(embedding_name(spec_)));
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
}

std::shared_ptr<const BlockWeights> Transformer::load_block(int64_t layer,
                                                            const WeightEdit& edit) const {
  if (layer < 0 || layer >= spec_.layers) throw failed_error("load_block: no layer {}", layer);
  auto block = std::make_shared<BlockWeights>();
  block->layer = layer;
  block->attention_norm = source_.read_floats(source_.get(norm_name(spec_, layer, kAttentionNorm)));
  block->mlp_norm = source_.read_floats(source_.get(norm_name(spec_, layer, kMlpNorm)));
  const auto names = linear_names(spec_, layer);
  const auto shapes = linear_shapes(spec_);
  Linear* const linears[] = {&block->q,    &block->k,  &block->v,   &block->o,
                             &block->gate, &block->up, &block->down};
  for (size_t i = 0; i < names.size(); ++i) {
    const TensorInfo& tensor = source_.get(names[i] + ".weight");
    const auto [out, in, has_bias] = shapes[i];
    std::vector<std::byte> bytes = read_stored(tensor);
    DType dtype = tensor.dtype;
    if (edit) {
      std::vector<float> values(static_cast<size_t>(out * in));
      widen(dtype, bytes.data(), values);
      edit(names[i], values, out, in);
      const auto edited = std::as_bytes(std::span(values));
      bytes.assign(edited.begin(), edited.end());
      dtype = DType::kF32;
    }
    linears[i]->weight = backend_.pack(dtype, bytes.data(), out, in);
    if (has_bias) linears[i]->bias = source_.read_floats(source_.get(names[i] + ".bias"));
  }
  return block;
}

void Transformer::run_block(const BlockWeights& block, std::span<const SequenceRows> sequences,
                            std::span<float> hidden, const TapFn& tap) const {
  const int64_t rows = static_cast<int64_t>(hidden.size()) / spec_.hidden;
  check_rows(sequences, rows, spec_, source_.label());
  attend(block, sequences, rows, hidden.data(), tap);
  feed_forward(block, rows, hidden.data(), tap);
}

// hidden [rows, hidden] += o(attention(rope(q), rope(k), v)), q, k, v of norm(hidden).
void Transformer::attend(const BlockWeights& block, std::span<const SequenceRows> sequences,
                         int64_t rows, float* hidden, const TapFn& tap) const {
  const int64_t width = spec_.heads * spec_.head_dim, kv_width = spec_.kv_heads * spec_.head_dim;
  Workspace& w = *workspace_;
  float* normed = w.normed.get(rows * spec_.hidden);                   // [rows, hidden]
  float* q = w.q.get(rows * width);                                    // [rows, heads, head_dim]
  float *k = w.k.get(rows * kv_width), *v = w.v.get(rows * kv_width);  // [rows, kv_heads, head_dim]
  backend_.rms_norm(hidden, rows, spec_.hidden, block.attention_norm, spec_.norm_epsilon, normed);
  if (tap) tap(Tap::kAttentionIn, {normed, rows, spec_.hidden});
  backend_.linear(*block.q.weight, block.q.bias, normed, rows, q);
  backend_.linear(*block.k.weight, block.k.bias, normed, rows, k);
  backend_.linear(*block.v.weight, block.v.bias, normed, rows, v);

  std::vector<int64_t> positions;
  for (const SequenceRows& s : sequences) {
    for (int64_t i = 0; i < s.rows; ++i) positions.push_back(s.first_position + i);
  }
  const RopeSpec& rope = spec_.rope;
  backend_.rope(q, rows, spec_.heads, spec_.head_dim, positions, rope.inverse_frequency,
                rope.attention_factor);
  backend_.rope(k, rows, spec_.kv_heads, spec_.head_dim, positions, rope.inverse_frequency,
                rope.attention_factor);

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
  backend_.attention({spec_.heads, spec_.kv_heads, spec_.head_dim, spec_.attention_scale},
                     attention, q, mixed);
  if (tap) tap(Tap::kAttentionOut, {mixed, rows, width});
  float* projected = w.projected.get(rows * spec_.hidden);  // [rows, hidden]
  backend_.linear(*block.o.weight, block.o.bias, mixed, rows, projected);
  backend_.add(hidden, projected, rows * spec_.hidden);
}

// hidden [rows, hidden] += down(silu(gate(x)) * up(x)), x = norm(hidden).
void Transformer::feed_forward(const BlockWeights& block, int64_t rows, float* hidden,
                               const TapFn& tap) const {
  Workspace& w = *workspace_;
  float* normed = w.normed.get(rows * spec_.hidden);    // [rows, hidden]
  float* gate = w.gate.get(rows * spec_.intermediate);  // [rows, intermediate]
  float* up = w.up.get(rows * spec_.intermediate);      // [rows, intermediate]
  backend_.rms_norm(hidden, rows, spec_.hidden, block.mlp_norm, spec_.norm_epsilon, normed);
  if (tap) tap(Tap::kMlpIn, {normed, rows, spec_.hidden});
  backend_.linear(*block.gate.weight, block.gate.bias, normed, rows, gate);
  backend_.linear(*block.up.weight, block.up.bias, normed, rows, up);
  backend_.silu_multiply(gate, up, rows * spec_.intermediate);
  if (tap) tap(Tap::kMlpDown, {gate, rows, spec_.intermediate});
  float* projected = w.projected.get(rows * spec_.hidden);  // [rows, hidden]
  backend_.linear(*block.down.weight, block.down.bias, gate, rows, projected);
  backend_.add(hidden, projected, rows * spec_.hidden);
}

void Transformer::head(std::span<const float> hidden, std::span<const int64_t> rows,
                       std::span<float> logits) const {
  if (logits.size() != rows.size() * static_cast<size_t>(spec_.vocab)) {
    throw failed_error("head: {} logits for {} rows", logits.size(), rows.size());
  }
  if (!ends_->head) {
    if (tied_head_) load_embedding();
    const TensorInfo& tensor = source_.get(tied_head_ ? embedding_name(spec_) : std::string(kHead));
    const auto own = tied_head_ ? std::vector<std::byte>() : read_stored(tensor);
    ends_->head = backend_.pack(tensor.dtype, (tied_head_ ? ends_->embedding : own).data(),
                                spec_.vocab, spec_.hidden);
    ends_->norm = source_.read_floats(source_.get(final_norm_name(spec_)));
  }
  const auto count = static_cast<int64_t>(rows.size());
  float* chosen = workspace_->last.get(count * spec_.hidden);  // [rows.size(), hidden]
  for (int64_t i = 0; i < count; ++i) {
    const auto row =
        hidden.subspan(static_cast<size_t>(rows[static_cast<size_t>(i)] * spec_.hidden),
                       static_cast<size_t>(spec_.hidden));
    std::copy(row.begin(), row.end(), chosen + i * spec_.hidden);
  }
  backend_.rms_norm(chosen, count, spec_.hidden, ends_->norm, spec_.norm_epsilon, chosen);
  backend_.linear(*ends_->head, {}, chosen, count, logits.data());
}

}  // namespace lewis
