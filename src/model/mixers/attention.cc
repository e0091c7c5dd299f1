// Attention with rotary positions: softmax(scale * rope(norm(q)) rope(norm(k))^T) v over the tokens
// that a token sees, projected by o. Query heads may share key and value heads (grouped queries).
#include <array>

#include "base/error.h"
#include "model/mixer.h"

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
  const auto turn = [&](int64_t first, int64_t rows, const std::vector<float>& frequency) {
    const auto at =
        std::span(positions).subspan(static_cast<size_t>(first), static_cast<size_t>(rows));
    for (const auto& [x, heads] : {std::pair(q, spec.heads), std::pair(k, spec.kv_heads)}) {
      call.backend.rope(x + first * heads * spec.head_dim, rows, heads, spec.head_dim, at,
                        frequency, rope.attention_factor, rope.pairs);
    }
  };
  if (all_short) {
    turn(0, static_cast<int64_t>(positions.size()), rope.inverse_frequency);
    return;
  }
  for (const MixedRows& s : call.sequences)
    turn(s.first_row, s.rows, rope_frequencies(rope, s.first_position + s.rows));
}

class Attention final : public Mixer {
 public:
  Value describe(BlockBuilder& block, Value x) const override {
    const ModelSpec& spec = block.spec();
    const int64_t width = query_width(spec), kv = key_width(spec);
    if (spec.qk_norm != QkNorm::kNone) {
      block.own_tensor("self_attn.q_norm.weight", {norm_width(spec, spec.heads)},
                       spec.norm.plus_one);
      block.own_tensor("self_attn.k_norm.weight", {norm_width(spec, spec.kv_heads)},
                       spec.norm.plus_one);
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
    if (spec.qk_norm != QkNorm::kNone) {
      norm_heads(call, q, spec.heads, call.own[0]);
      norm_heads(call, k, spec.kv_heads, call.own[1]);
    }
    if (layer.rope != kNoRope)
      encode_positions(call, spec.ropes[static_cast<size_t>(layer.rope)], q, k);
    const int64_t kv = key_width(spec);
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
