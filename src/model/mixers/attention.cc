// Attention with rotary positions: softmax(scale * rope(norm(q)) rope(norm(k))^T) v over the tokens
// that a token sees, projected by o. Query heads may share key and value heads (grouped queries).
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "model/mixer.h"
#include "model/mixers/kv_cache.h"

namespace lewis {
namespace {

// Whether queries and keys have norms with weights.
bool has_norms(const ModelSpec& spec) {
  return spec.qk_norm == QkNorm::kHead || spec.qk_norm == QkNorm::kWhole;
}

bool reads_others_keys(const ModelSpec& spec, int64_t layer) {
  return spec.layer[static_cast<size_t>(layer)].kv_source != kNoSource;
}

// Values of one query or key row that their norm takes together.
int64_t norm_width(const ModelSpec& spec, int64_t heads, int64_t head_dim) {
  return spec.qk_norm == QkNorm::kWhole ? heads * head_dim : head_dim;
}

void norm_heads(const MixCall& call, float* x, int64_t heads, int64_t head_dim,
                std::span<const float> weight) {
  const int64_t columns = norm_width(call.spec, heads, head_dim);
  call.backend.rms_norm(x, call.rows * heads * head_dim / columns, columns, weight,
                        call.spec.norm.epsilon, x);
}

// Queries at later positions are longer (Llama 4, Ministral 3).
void scale_queries(const MixCall& call, float* q, int64_t width) {
  const ModelSpec& spec = call.spec;
  for (const MixedRows& s : call.sequences) {
    for (int64_t i = 0; i < s.rows; ++i) {
      const int64_t times =
          (s.first_position + i + spec.query_scale_offset) / spec.query_scale_length;
      const float factor = 1 + spec.query_scale_beta * std::log(1 + static_cast<float>(times));
      if (factor != 1) call.backend.scale(q + (s.first_row + i) * width, factor, width);
    }
  }
}

void clip(float* x, int64_t n, float limit) {
  for (int64_t i = 0; i < n; ++i) x[i] = std::clamp(x[i], -limit, limit);
}

// Moves the queries of q [rows, heads, 2, head_dim] together, and returns the other halves.
std::vector<float> take_gate(const MixCall& call, float* q, const HeadShape& h) {
  const int64_t dim = h.head_dim, heads = call.rows * h.heads;
  std::vector<float> gate(static_cast<size_t>(heads * dim));
  for (int64_t i = 0; i < heads; ++i) {
    std::copy_n(q + (2 * i + 1) * dim, dim, gate.data() + i * dim);
    std::copy_n(q + 2 * i * dim, dim, q + i * dim);
  }
  return gate;
}

// x *= sigmoid(gate).
void apply_gate(const MixCall& call, std::span<const float> gate, float* x) {
  const size_t width = gate.size() / static_cast<size_t>(call.rows);
  call.threads.run(static_cast<size_t>(call.rows), [&](size_t row) {
    for (size_t i = row * width; i < (row + 1) * width; ++i) x[i] /= 1 + std::exp(-gate[i]);
  });
}

class Attention final : public Mixer {
 public:
  Value describe(BlockBuilder& block, Value x) const override {
    const ModelSpec& spec = block.spec();
    const HeadShape h = head_shape(spec, block.number());
    const bool others = reads_others_keys(spec, block.number());
    const auto own = [&](std::string_view name, int64_t heads) {
      block.own_tensor(fmt::format("{}{}.weight", spec.attention, name),
                       {norm_width(spec, heads, h.head_dim)}, spec.norm.plus_one);
    };
    if (has_norms(spec)) own(spec.q_norm, h.heads);
    if (has_norms(spec) && !others) own(spec.k_norm, h.kv_heads);
    if (spec.sinks) block.own_tensor(fmt::format("{}sinks", spec.attention), {h.heads});
    std::vector<LinearPart> parts = {{"q_proj", (spec.attention_gate ? 2 : 1) * h.query_width()}};
    if (!others) parts.push_back({"k_proj", h.key_width()});
    if (!others && !block.layer().keys_are_values) parts.push_back({"v_proj", h.key_width()});
    const auto qkv =
        block.linears(spec.attention, parts, x, spec.qkv_bias, spec.fused_qkv ? "qkv_proj" : "");
    const Value mixed = block.mix(qkv, std::array{h.query_width()})[0];
    return block.linear(spec.attention, {spec.o_proj, spec.hidden}, mixed, spec.o_bias);
  }

  // in: q [rows, heads, head_dim], where a gate follows each head of the same width, k and v [rows,
  // kv_heads, head_dim]; out: [rows, heads, head_dim].
  void mix(const MixCall& call) const override {
    if (call.stage == kRouterInput) return norm_router_input(call);
    const ModelSpec& spec = call.spec;
    const LayerSpec& layer = spec.layer[static_cast<size_t>(call.layer)];
    const HeadShape h = head_shape(spec, call.layer);
    float* q = call.in[0];
    float* k = call.in.size() > 1 ? call.in[1] : nullptr;
    std::vector<float> copied;  // of the keys
    if (k && call.in.size() == 2) copied.assign(k, k + call.rows * h.key_width());
    float* v = call.in.size() > 2 ? call.in[2] : copied.data();
    std::vector<float> gate;
    if (spec.attention_gate) gate = take_gate(call, q, h);
    prepare(call, h, q, k, v);
    std::span<const float> sinks;
    if (spec.sinks) sinks = call.own[has_norms(spec) ? 2 : 0];
    attend(call,
           {h.heads, h.kv_heads, h.head_dim, spec.attention_scale, layer.window,
            spec.attention_softcap, layer.chunk, sinks},
           q, k, v, call.out[0]);
    if (spec.attention_gate) apply_gate(call, gate, call.out[0]);
  }

  std::unique_ptr<MixerState> new_state(const ModelSpec& spec, int64_t layer) const override {
    return std::make_unique<KvCache>(head_shape(spec, layer).key_width());
  }

  // A layer that others lend keys and values to has none of its own.
  int64_t state_values(const ModelSpec& spec, int64_t layer) const override {
    if (spec.layer[static_cast<size_t>(layer)].kv_source != kNoSource) return 0;
    return 2 * head_shape(spec, layer).key_width();
  }

  // The gate. In bfloat16 keys and values are rounded.
  int64_t working_values(const ModelSpec& spec, ComputeType type) const override {
    int64_t most = 0;
    for (int64_t layer = 0; layer < spec.layers; ++layer) {
      const HeadShape h = head_shape(spec, layer);
      const bool copies = spec.layer[static_cast<size_t>(layer)].keys_are_values;
      most = std::max(most, (spec.attention_gate ? h.query_width() : 0) +
                                (copies ? h.key_width() : 0) +
                                (type == ComputeType::kF32 ? 0 : h.key_width()));
    }
    return most;
  }

 private:
  // Norms, positions and scales of queries and keys; k and v are null where they are another
  // layer's.
  void prepare(const MixCall& call, const HeadShape& h, float* q, float* k, float* v) const {
    const ModelSpec& spec = call.spec;
    const LayerSpec& layer = spec.layer[static_cast<size_t>(call.layer)];
    const bool turns = layer.rope != kNoRope;
    const auto norm = [&](std::span<const float> of_q, std::span<const float> of_k) {
      norm_heads(call, q, h.heads, h.head_dim, of_q);
      if (k) norm_heads(call, k, h.kv_heads, h.head_dim, of_k);
    };
    const auto norm_by_own = [&] {
      norm(call.own[0], k ? std::span<const float>(call.own[1]) : std::span<const float>());
    };
    const std::vector<float> ones(static_cast<size_t>(h.head_dim), 1.0f);
    if (k && spec.key_multiplier != 1)
      call.backend.scale(k, spec.key_multiplier, call.rows * h.key_width());
    if (has_norms(spec) && !spec.norm_after_rope) norm_by_own();
    if (spec.qkv_clip != 0) {
      clip(q, call.rows * h.query_width(), spec.qkv_clip);
      for (float* x : {k, v}) clip(x, call.rows * h.key_width(), spec.qkv_clip);
    }
    if (turns) {
      encode_positions(call, spec.ropes[static_cast<size_t>(layer.rope)], {q, h.heads, h.head_dim},
                       {k, k ? h.kv_heads : 0, h.head_dim});
    }
    if (has_norms(spec) && spec.norm_after_rope) norm_by_own();
    if (spec.qk_norm == QkNorm::kUnit && turns) norm(ones, ones);
    if (k && spec.value_norm) norm_heads(call, v, h.kv_heads, h.head_dim, ones);
    if (spec.query_scale_beta != 0 && !(spec.scales_unturned_queries && turns))
      scale_queries(call, q, h.query_width());
  }

  // Gemma 4: x / rms(x) * scale / sqrt(hidden). in and out: [rows, hidden].
  static void norm_router_input(const MixCall& call) {
    const ModelSpec& spec = call.spec;
    const size_t index = has_norms(spec) ? (reads_others_keys(spec, call.layer) ? 1 : 2) : 0;
    std::vector<float> weight = call.own[index];
    const float factor = 1 / std::sqrt(static_cast<float>(spec.hidden));
    for (float& w : weight) w *= factor;
    call.backend.rms_norm(call.in[0], call.rows, spec.hidden, weight, spec.norm.epsilon,
                          call.out[0]);
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
