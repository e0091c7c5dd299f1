// Attention with rotary positions: softmax(scale * rope(norm(q)) rope(norm(k))^T) v over the tokens
// that a token sees, projected by o. Query heads may share key and value heads (grouped queries).
#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "model/mixer.h"
#include "model/mixers/kv_cache.h"

namespace lewis {
namespace {

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

// Moves the queries of q [rows, heads, 2, head_dim] together, and returns the other halves.
std::vector<float> take_gate(const MixCall& call, float* q) {
  const int64_t dim = call.spec.head_dim, heads = call.rows * call.spec.heads;
  std::vector<float> gate(static_cast<size_t>(heads * dim));
  for (int64_t h = 0; h < heads; ++h) {
    std::copy_n(q + (2 * h + 1) * dim, dim, gate.data() + h * dim);
    std::copy_n(q + 2 * h * dim, dim, q + h * dim);
  }
  return gate;
}

// x *= sigmoid(gate).
void apply_gate(const MixCall& call, std::span<const float> gate, float* x) {
  const auto width = static_cast<size_t>(query_width(call.spec));
  call.threads.run(static_cast<size_t>(call.rows), [&](size_t row) {
    for (size_t i = row * width; i < (row + 1) * width; ++i) x[i] /= 1 + std::exp(-gate[i]);
  });
}

class Attention final : public Mixer {
 public:
  Value describe(BlockBuilder& block, Value x) const override {
    const ModelSpec& spec = block.spec();
    const int64_t width = query_width(spec), kv = key_width(spec);
    if (spec.qk_norm != QkNorm::kNone) {
      const auto own = [&](std::string_view name, int64_t heads) {
        block.own_tensor(fmt::format("{}{}.weight", spec.attention, name),
                         {norm_width(spec, heads)}, spec.norm.plus_one);
      };
      own(spec.q_norm, spec.heads);
      own(spec.k_norm, spec.kv_heads);
    }
    const std::array<LinearPart, 3> parts = {
        {{"q_proj", (spec.attention_gate ? 2 : 1) * width}, {"k_proj", kv}, {"v_proj", kv}}};
    const auto qkv =
        block.linears(spec.attention, parts, x, spec.qkv_bias, spec.fused_qkv ? "qkv_proj" : "");
    const Value mixed = block.mix(qkv, std::array{width})[0];
    return block.linear(spec.attention, {spec.o_proj, spec.hidden}, mixed, spec.o_bias);
  }

  // in: q [rows, heads, head_dim], where a gate follows each head of the same width, k and v [rows,
  // kv_heads, head_dim]; out: [rows, heads, head_dim].
  void mix(const MixCall& call) const override {
    const ModelSpec& spec = call.spec;
    const LayerSpec& layer = spec.layer[static_cast<size_t>(call.layer)];
    float *q = call.in[0], *k = call.in[1], *v = call.in[2];
    const int64_t kv = key_width(spec);
    const std::vector<float> gate = spec.attention_gate ? take_gate(call, q) : std::vector<float>();
    const auto norm = [&] {
      norm_heads(call, q, spec.heads, call.own[0]);
      norm_heads(call, k, spec.kv_heads, call.own[1]);
    };
    if (spec.key_multiplier != 1) call.backend.scale(k, spec.key_multiplier, call.rows * kv);
    if (spec.qk_norm != QkNorm::kNone && !spec.norm_after_rope) norm();
    if (spec.qkv_clip != 0) {
      clip(q, call.rows * query_width(spec), spec.qkv_clip);
      for (float* x : {k, v}) clip(x, call.rows * kv, spec.qkv_clip);
    }
    if (layer.rope != kNoRope)
      encode_positions(call, spec.ropes[static_cast<size_t>(layer.rope)],
                       {q, spec.heads, spec.head_dim}, {k, spec.kv_heads, spec.head_dim});
    if (spec.qk_norm != QkNorm::kNone && spec.norm_after_rope) norm();
    if (spec.query_scale_beta != 0) scale_queries(call, q);
    attend(call,
           {spec.heads, spec.kv_heads, spec.head_dim, spec.attention_scale, layer.window,
            spec.attention_softcap},
           q, k, v, call.out[0]);
    if (spec.attention_gate) apply_gate(call, gate, call.out[0]);
  }

  std::unique_ptr<MixerState> new_state(const ModelSpec& spec, int64_t) const override {
    return std::make_unique<KvCache>(key_width(spec));
  }

  // The gate. In bfloat16 keys and values are rounded.
  int64_t working_values(const ModelSpec& spec, ComputeType type) const override {
    return (spec.attention_gate ? query_width(spec) : 0) +
           (type == ComputeType::kF32 ? 0 : key_width(spec));
  }
};

constexpr std::array<GgmlName, 10> kNames = {{
    {"self_attn.q_proj", "attn_q", "attn_qkv"},
    {"self_attn.k_proj", "attn_k", "attn_qkv"},
    {"self_attn.v_proj", "attn_v", "attn_qkv"},
    {"self_attn.qkv_proj", "attn_qkv", ""},
    {"self_attn.o_proj", "attn_output", ""},
    {"self_attn.out_proj", "attn_output", ""},  // LFM 2
    {"mixer.q_proj", "attn_q", ""},             // Nemotron-H
    {"mixer.k_proj", "attn_k", ""},
    {"mixer.v_proj", "attn_v", ""},
    {"mixer.o_proj", "attn_output", ""},
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
