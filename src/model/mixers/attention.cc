// Attention with rotary positions: softmax(scale * rope(norm(q)) rope(norm(k))^T) v over the tokens
// that a token sees, projected by o. Query heads may share key and value heads (grouped queries).
#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "model/mixer.h"
#include "model/rope.h"

namespace lewis {
namespace {

// Keys and values of one sequence in one layer.
class KvCache final : public MixerState {
 public:
  explicit KvCache(int64_t width) : width_(width) {}

  // Appends rows of keys and values ([rows, kv_heads * head_dim]) at `position`, which must be
  // where the cache ends.
  void append(int64_t position, const float* keys, const float* values, int64_t rows) {
    if (static_cast<int64_t>(keys_.size()) != position * width_) {
      throw failed_error("a layer's cache ends at position {}, not {}",
                         static_cast<int64_t>(keys_.size()) / width_, position);
    }
    keys_.insert(keys_.end(), keys, keys + rows * width_);
    values_.insert(values_.end(), values, values + rows * width_);
  }
  const float* keys() const { return keys_.data(); }
  const float* values() const { return values_.data(); }

 private:
  int64_t width_;
  std::vector<float> keys_, values_;  // [positions, kv_heads * head_dim]
};

int64_t query_width(const ModelSpec& spec) { return spec.heads * spec.head_dim; }
int64_t key_width(const ModelSpec& spec) { return spec.kv_heads * spec.head_dim; }

// Values of one query or key row that their norm takes together.
int64_t norm_width(const ModelSpec& spec, int64_t heads) {
  return spec.qk_norm == QkNorm::kWhole ? heads * spec.head_dim : spec.head_dim;
}

void norm_heads(const MixCall& call, float* x, int64_t heads, std::span<const float> weight) {
  const ModelSpec& spec = call.spec;
  const int64_t columns = norm_width(spec, heads);
  call.backend.rms_norm(x, call.rows * heads * spec.head_dim / columns, columns, weight,
                        spec.norm.epsilon, x);
}

// Rope of q [rows, heads, head_dim] and k [rows, kv_heads, head_dim]. A sequence that is longer
// than the rope's short length has frequencies of its own.
void encode_positions(const MixCall& call, const RopeSpec& rope, float* q, float* k) {
  const ModelSpec& spec = call.spec;
  std::vector<int64_t> positions;
  bool all_short = true;
  for (const MixedRows& s : call.sequences) {
    for (int64_t i = 0; i < s.rows; ++i) positions.push_back(s.first_position + i);
    all_short = all_short && s.first_position + s.rows <= rope.short_length;
  }
  const auto turn = [&](int64_t first, int64_t rows, const std::vector<float>& frequency,
                        float factor) {
    const auto at =
        std::span(positions).subspan(static_cast<size_t>(first), static_cast<size_t>(rows));
    for (const auto& [x, heads] : {std::pair(q, spec.heads), std::pair(k, spec.kv_heads)}) {
      call.backend.rope(x + first * heads * spec.head_dim, rows, heads, spec.head_dim, at,
                        frequency, factor, rope.pairs);
    }
  };
  if (all_short) {
    turn(0, static_cast<int64_t>(positions.size()), rope.inverse_frequency, rope.attention_factor);
    return;
  }
  for (const MixedRows& s : call.sequences) {
    const int64_t length = s.first_position + s.rows;
    turn(s.first_row, s.rows, rope_frequencies(rope, length), rope_attention_factor(rope, length));
  }
}

// Queries at later positions are longer (Llama 4, Ministral 3).
void scale_queries(const MixCall& call, float* q) {
  const ModelSpec& spec = call.spec;
  const int64_t width = query_width(spec);
  for (const MixedRows& s : call.sequences) {
    for (int64_t i = 0; i < s.rows; ++i) {
      const int64_t times = (s.first_position + i) / spec.query_scale_length;
      const float factor = 1 + spec.query_scale_beta * std::log(1 + static_cast<float>(times));
      if (factor != 1) call.backend.scale(q + (s.first_row + i) * width, factor, width);
    }
  }
}

void clip(float* x, int64_t n, float limit) {
  for (int64_t i = 0; i < n; ++i) x[i] = std::clamp(x[i], -limit, limit);
}

class Attention final : public Mixer {
 public:
  Value describe(BlockBuilder& block, Value x) const override {
    const ModelSpec& spec = block.spec();
    const int64_t width = query_width(spec), kv = key_width(spec);
    if (spec.qk_norm != QkNorm::kNone) {
      const auto own = [&](std::string_view name, int64_t heads) {
        block.own_tensor(fmt::format("self_attn.{}.weight", name), {norm_width(spec, heads)},
                         spec.norm.plus_one);
      };
      own(spec.q_norm, spec.heads);
      own(spec.k_norm, spec.kv_heads);
    }
    const std::array<LinearPart, 3> parts = {{{"q_proj", width}, {"k_proj", kv}, {"v_proj", kv}}};
    const auto qkv =
        block.linears("self_attn.", parts, x, spec.qkv_bias, spec.fused_qkv ? "qkv_proj" : "");
    const Value mixed = block.mix(qkv, std::array{width})[0];
    return block.linear("self_attn.", {"o_proj", spec.hidden}, mixed, spec.o_bias);
  }

  // in: q [rows, heads, head_dim], k and v [rows, kv_heads, head_dim]; out: [rows, heads,
  // head_dim].
  void mix(const MixCall& call) const override {
    const ModelSpec& spec = call.spec;
    const LayerSpec& layer = spec.layer[static_cast<size_t>(call.layer)];
    float *q = call.in[0], *k = call.in[1], *v = call.in[2];
    const int64_t kv = key_width(spec);
    const auto norm = [&] {
      norm_heads(call, q, spec.heads, call.own[0]);
      norm_heads(call, k, spec.kv_heads, call.own[1]);
    };
    if (spec.qk_norm != QkNorm::kNone && !spec.norm_after_rope) norm();
    if (spec.qkv_clip != 0) {
      clip(q, call.rows * query_width(spec), spec.qkv_clip);
      for (float* x : {k, v}) clip(x, call.rows * kv, spec.qkv_clip);
    }
    if (layer.rope != kNoRope)
      encode_positions(call, spec.ropes[static_cast<size_t>(layer.rope)], q, k);
    if (spec.qk_norm != QkNorm::kNone && spec.norm_after_rope) norm();
    if (spec.query_scale_beta != 0) scale_queries(call, q);
    std::vector<AttentionRows> attention;
    for (const MixedRows& s : call.sequences) {
      const float *keys = k + s.first_row * kv, *values = v + s.first_row * kv;
      if (s.state) {
        auto& cache = static_cast<KvCache&>(*s.state);
        cache.append(s.first_position, keys, values, s.rows);
        keys = cache.keys();
        values = cache.values();
      }
      attention.push_back({s.first_row, s.rows, keys, values, s.first_position});
    }
    call.backend.attention({spec.heads, spec.kv_heads, spec.head_dim, spec.attention_scale,
                            layer.window, spec.attention_softcap},
                           attention, q, call.out[0]);
  }

  std::unique_ptr<MixerState> new_state(const ModelSpec& spec) const override {
    return std::make_unique<KvCache>(key_width(spec));
  }

  // In bfloat16 keys and values are rounded.
  int64_t working_values(const ModelSpec& spec, ComputeType type) const override {
    return type == ComputeType::kF32 ? 0 : key_width(spec);
  }
};

constexpr std::array<GgmlName, 5> kNames = {{
    {"self_attn.q_proj", "attn_q", "attn_qkv"},
    {"self_attn.k_proj", "attn_k", "attn_qkv"},
    {"self_attn.v_proj", "attn_v", "attn_qkv"},
    {"self_attn.qkv_proj", "attn_qkv", ""},
    {"self_attn.o_proj", "attn_output", ""},
}};

}  // namespace

MixerPtr attention_mixer() {
  static const MixerPtr kMixer = std::make_shared<Attention>();
  return kMixer;
}

extern const MixerRow kAttention;
const MixerRow kAttention = {"attention", [](const ConfigReader&) { return attention_mixer(); },
                             kNames};

}  // namespace lewis
