// Falcon-H1: attention and Mamba 2 side by side, each with multipliers of its own, added up.
#include <array>
#include <vector>

#include "base/error.h"
#include "model/mixers/mamba2.h"

namespace lewis {
namespace {

struct ParallelState final : MixerState {
  std::unique_ptr<MixerState> attention, mamba;
};

class AttentionAndMamba final : public Mixer {
 public:
  struct Multipliers {
    float attention_in = 1, attention_out = 1, mamba_in = 1, mamba_out = 1;
    bool operator==(const Multipliers&) const = default;
  };
  AttentionAndMamba(const Multipliers& multipliers, MixerPtr mamba)
      : m_(multipliers), attention_(attention_mixer()), mamba_(std::move(mamba)) {}

  // The own tensors are Mamba's.
  Value describe(BlockBuilder& block, Value x) const override {
    const int64_t width = block.spec().hidden;
    const std::vector<Value> in = block.mix({x}, std::array{width, width}, kScale);
    block.set_first_stage(kMamba);
    const Value mamba = mamba_->describe(block, in[1]);
    block.set_first_stage(kAttention);
    const Value attention = attention_->describe(block, in[0]);
    block.set_first_stage(0);
    return block.mix({attention, mamba}, std::array{width}, kSum)[0];
  }

  void mix(const MixCall& call) const override {
    const auto n = static_cast<size_t>(call.rows * call.spec.hidden);
    if (call.stage == kScale) {
      for (size_t i = 0; i < n; ++i) {
        call.out[0][i] = call.in[0][i] * m_.attention_in;
        call.out[1][i] = call.in[0][i] * m_.mamba_in;
      }
    } else if (call.stage == kSum) {
      for (size_t i = 0; i < n; ++i) {
        call.out[0][i] = call.in[1][i] * m_.mamba_out + call.in[0][i] * m_.attention_out;
      }
    } else {
      mix_part(call, call.stage >= kAttention);
    }
  }

  std::unique_ptr<MixerState> new_state(const ModelSpec& spec, int64_t layer) const override {
    auto state = std::make_unique<ParallelState>();
    state->attention = attention_->new_state(spec, layer);
    state->mamba = mamba_->new_state(spec, layer);
    return state;
  }

  int64_t state_values(const ModelSpec& spec, int64_t layer) const override {
    return attention_->state_values(spec, layer) + mamba_->state_values(spec, layer);
  }

  int64_t working_values(const ModelSpec& spec, ComputeType type) const override {
    return std::max(attention_->working_values(spec, type), mamba_->working_values(spec, type));
  }

  bool equals(const Mixer& other) const override {
    const auto* both = dynamic_cast<const AttentionAndMamba*>(&other);
    return both && both->m_ == m_ && both->mamba_->equals(*mamba_);
  }

 private:
  enum Stage : int { kScale, kSum, kMamba = 100, kAttention = 200 };

  void mix_part(const MixCall& call, bool attention) const {
    std::vector<MixedRows> sequences(call.sequences.begin(), call.sequences.end());
    for (MixedRows& s : sequences) {
      if (!s.state) continue;
      auto& state = static_cast<ParallelState&>(*s.state);
      s.state = (attention ? state.attention : state.mamba).get();
    }
    MixCall part = call;
    part.stage = call.stage - (attention ? kAttention : kMamba);
    part.sequences = sequences;
    (attention ? attention_ : mamba_)->mix(part);
  }

  Multipliers m_;
  MixerPtr attention_, mamba_;
};

MixerPtr make_parallel(const ConfigReader& config) {
  const int64_t hidden = config.size("hidden_size");
  const int64_t inner = config.find("mamba_d_ssm") ? config.size("mamba_d_ssm")
                                                   : config.parts("mamba_expand") * hidden;
  Mamba2Settings s = read_mamba2(config, inner);
  s.out_bias = config.boolean("projectors_bias", false);
  if (config.boolean("mamba_rms_norm", false)) {
    s.norm = config.boolean("mamba_norm_before_gate", true) ? MambaNorm::kBeforeGate
                                                            : MambaNorm::kAfterGate;
  }
  if (config.find("ssm_multipliers")) {
    const std::vector<double> numbers = config.numbers("ssm_multipliers");
    if (numbers.size() != s.multipliers.size())
      throw config.refuse("ssm_multipliers", "a list of five numbers");
    for (size_t i = 0; i < numbers.size(); ++i) s.multipliers[i] = static_cast<float>(numbers[i]);
  }
  const auto multiplier = [&](std::string_view key) {
    return config.find(key) ? static_cast<float>(config.number(key)) : 1.0f;
  };
  const AttentionAndMamba::Multipliers m = {
      multiplier("attention_in_multiplier"), multiplier("attention_out_multiplier"),
      multiplier("ssm_in_multiplier"), multiplier("ssm_out_multiplier")};
  return std::make_shared<AttentionAndMamba>(m, make_mamba2(config, s));
}

}  // namespace

extern const MixerRow kAttentionAndMamba;
const MixerRow kAttentionAndMamba = {"attention_mamba2", make_parallel, {}};

}  // namespace lewis
