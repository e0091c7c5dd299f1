// Gated DeltaNet, the linear attention of Qwen 3.5 and Qwen3-Next: queries, keys and values pass a
// short convolution, then the gated delta rule (compute/recurrence.h), a norm of each head, and a
// gate.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "model/config_reader.h"
#include "model/mixer.h"
#include "model/mixers/recurrent.h"

namespace lewis {
namespace {

struct DeltaSettings {
  int64_t key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0, kernel = 0;
  bool fused = false;  // in_proj_qkvz and in_proj_ba, ordered by key heads (Qwen3-Next)

  int64_t keys() const { return key_heads * key_dim; }
  int64_t values() const { return value_heads * value_dim; }
  int64_t channels() const { return 2 * keys() + values(); }  // q, k, v
  int64_t group() const { return value_heads / key_heads; }   // value heads of a key head
  bool operator==(const DeltaSettings&) const = default;
};

constexpr int kSplit = 1;  // MixStep::stage: takes the fused projections apart
enum Own : size_t { kConv, kDtBias, kALog, kNorm };

class GatedDelta final : public Mixer {
 public:
  explicit GatedDelta(const DeltaSettings& settings) : s_(settings) {}

  Value describe(BlockBuilder& block, Value x) const override {
    constexpr std::string_view kPlace = "linear_attn.";
    block.own_tensor("linear_attn.conv1d.weight", {s_.channels(), 1, s_.kernel});
    block.own_tensor("linear_attn.dt_bias", {s_.value_heads});
    block.own_tensor("linear_attn.A_log", {s_.value_heads});
    block.own_tensor("linear_attn.norm.weight", {s_.value_dim});
    const std::array widths = {s_.channels(), s_.values(), s_.value_heads, s_.value_heads};
    std::vector<Value> parts;
    if (s_.fused) {
      const std::array<LinearPart, 2> fused = {
          {{"in_proj_qkvz", widths[0] + widths[1]}, {"in_proj_ba", 2 * s_.value_heads}}};
      parts = block.mix(block.linears(kPlace, fused, x, false), widths, kSplit);
    } else {
      const std::array<LinearPart, 4> own = {{{"in_proj_qkv", widths[0]},
                                              {"in_proj_z", widths[1]},
                                              {"in_proj_b", widths[2]},
                                              {"in_proj_a", widths[3]}}};
      parts = block.linears(kPlace, own, x, false);
    }
    const Value mixed = block.mix(parts, std::array{s_.values()})[0];
    return block.linear(kPlace, {"out_proj", block.spec().hidden}, mixed, false);
  }

  void mix(const MixCall& call) const override {
    call.stage == kSplit ? split(call) : attend(call);
  }

  std::unique_ptr<MixerState> new_state(const ModelSpec&, int64_t) const override {
    return std::make_unique<RecurrentState>(conv_values(), state_values());
  }

  // The gates of the rule.
  int64_t working_values(const ModelSpec&, ComputeType) const override {
    return 2 * s_.value_heads;
  }

  bool equals(const Mixer& other) const override {
    const auto* delta = dynamic_cast<const GatedDelta*>(&other);
    return delta && delta->s_ == s_;
  }

 private:
  int64_t conv_values() const { return (s_.kernel - 1) * s_.channels(); }
  int64_t state_values() const { return s_.value_heads * s_.key_dim * s_.value_dim; }

  // in: for each key head q, k, its values and their gates; for each key head b and a of its value
  // heads. out: q, k, v of all heads; z; b; a.
  void split(const MixCall& call) const {
    const int64_t dk = s_.key_dim, dv = s_.group() * s_.value_dim, g = s_.group();
    for (int64_t r = 0; r < call.rows; ++r) {
      const float* from = call.in[0] + r * (s_.channels() + s_.values());
      const float* gates = call.in[1] + r * 2 * s_.value_heads;
      float* qkv = call.out[0] + r * s_.channels();
      for (int64_t h = 0; h < s_.key_heads; ++h) {
        std::copy_n(from, dk, qkv + h * dk);
        std::copy_n(from + dk, dk, qkv + s_.keys() + h * dk);
        std::copy_n(from + 2 * dk, dv, qkv + 2 * s_.keys() + h * dv);
        std::copy_n(from + 2 * dk + dv, dv, call.out[1] + r * s_.values() + h * dv);
        from += 2 * dk + 2 * dv;
        std::copy_n(gates, g, call.out[2] + r * s_.value_heads + h * g);
        std::copy_n(gates + g, g, call.out[3] + r * s_.value_heads + h * g);
        gates += 2 * g;
      }
    }
  }

  // in: q, k, v [rows, channels]; z [rows, values]; b and a [rows, value heads].
  void attend(const MixCall& call) const {
    float *qkv = call.in[0], *z = call.in[1], *beta = call.in[2], *decay = call.in[3];
    CallStates states(call, conv_values(), state_values());
    run_short_conv({s_.channels(), s_.kernel, call.own[kConv], {}}, call, states, qkv);
    call.backend.activate(call.spec.activation, qkv, nullptr, call.rows * s_.channels());
    norm_keys(call, qkv);
    for (int64_t r = 0; r < call.rows; ++r) {
      for (int64_t h = 0; h < s_.value_heads; ++h) {
        const int64_t i = r * s_.value_heads + h;
        const auto at = static_cast<size_t>(h);
        beta[i] = 1 / (1 + std::exp(-beta[i]));
        decay[i] = -std::exp(call.own[kALog][at]) * softplus(decay[i] + call.own[kDtBias][at]);
      }
    }
    call.backend.delta_rule(heads_of(call, states));
    states.finish(call);
    const int64_t n = call.rows * s_.values();
    call.backend.rms_norm(call.out[0], call.rows * s_.value_heads, s_.value_dim, call.own[kNorm],
                          call.spec.norm.epsilon, call.out[0]);
    call.backend.activate(Activation::kSilu, z, call.out[0], n);
    std::copy_n(z, n, call.out[0]);
  }

  // Every head of every sequence.
  std::vector<DeltaHead> heads_of(const MixCall& call, const CallStates& states) const {
    std::vector<DeltaHead> heads;
    for (size_t i = 0; i < call.sequences.size(); ++i) {
      const MixedRows& s = call.sequences[i];
      const float* qkv = call.in[0] + s.first_row * s_.channels();
      for (int64_t h = 0; h < s_.value_heads; ++h) {
        const float* q = qkv + h / s_.group() * s_.key_dim;
        const int64_t gate = s.first_row * s_.value_heads + h;
        heads.push_back({.rows = s.rows,
                         .key_dim = s_.key_dim,
                         .value_dim = s_.value_dim,
                         .q = q,
                         .k = q + s_.keys(),
                         .v = qkv + 2 * s_.keys() + h * s_.value_dim,
                         .key_stride = s_.channels(),
                         .value_stride = s_.channels(),
                         .decay = call.in[3] + gate,
                         .beta = call.in[2] + gate,
                         .gate_stride = s_.value_heads,
                         .state = states[i].values.data() + h * s_.key_dim * s_.value_dim,
                         .out = call.out[0] + s.first_row * s_.values() + h * s_.value_dim,
                         .out_stride = s_.values()});
      }
    }
    return heads;
  }

  // Queries and keys of length 1, and queries / sqrt(key_dim).
  void norm_keys(const MixCall& call, float* qkv) const {
    constexpr float kEpsilon = 1e-6f;
    const float scale = 1 / std::sqrt(static_cast<float>(s_.key_dim));
    call.threads.run(static_cast<size_t>(call.rows), [&](size_t row) {
      float* x = qkv + static_cast<int64_t>(row) * s_.channels();
      for (int64_t h = 0; h < 2 * s_.key_heads; ++h, x += s_.key_dim) {
        float squares = 0;
        for (int64_t i = 0; i < s_.key_dim; ++i) squares += x[i] * x[i];
        const float factor = 1 / std::sqrt(squares + kEpsilon) * (h < s_.key_heads ? scale : 1);
        for (int64_t i = 0; i < s_.key_dim; ++i) x[i] *= factor;
      }
    });
  }

  DeltaSettings s_;
};

MixerPtr make_gated_delta(const ConfigReader& config, bool fused) {
  DeltaSettings s;
  s.key_heads = config.parts("linear_num_key_heads");
  s.value_heads = config.parts("linear_num_value_heads");
  s.key_dim = config.parts("linear_key_head_dim");
  s.value_dim = config.parts("linear_value_head_dim");
  s.kernel = config.parts("linear_conv_kernel_dim");
  s.fused = fused;
  if (s.value_heads % s.key_heads != 0) {
    throw config.refuse("linear_num_value_heads",
                        fmt::format("a multiple of linear_num_key_heads = {}", s.key_heads));
  }
  return std::make_shared<GatedDelta>(s);
}

constexpr std::array<GgmlName, 7> kNames = {{
    {"linear_attn.in_proj_qkv", "attn_qkv", ""},
    {"linear_attn.in_proj_z", "attn_gate", ""},
    {"linear_attn.in_proj_b", "ssm_beta", ""},
    {"linear_attn.in_proj_a", "ssm_alpha", ""},
    {"linear_attn.in_proj_qkvz", "ssm_in", ""},
    {"linear_attn.in_proj_ba", "ssm_ba", ""},
    {"linear_attn.out_proj", "ssm_out", ""},
}};

}  // namespace

extern const MixerRow kGatedDelta;
const MixerRow kGatedDelta = {
    "gated_delta", [](const ConfigReader& config) { return make_gated_delta(config, false); },
    kNames};
extern const MixerRow kFusedGatedDelta;
const MixerRow kFusedGatedDelta = {
    "gated_delta_fused",
    [](const ConfigReader& config) { return make_gated_delta(config, true); },
    {}};

}  // namespace lewis
