// A mixer of the tests alone, which src/ knows nothing of: out = k + decay * (k of the token
// before), k = k_proj(norm(q_proj(x))), projected by o_proj. It has linear layers in three stages,
// a norm and a tensor of its own, and a state. It borrows names of linear layers that importance
// matrices have.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "model/mixer.h"

namespace lewis {

class EchoMixer final : public Mixer {
 public:
  static constexpr int64_t kWidth = 16, kInner = 12;

  Value describe(BlockBuilder& block, Value x) const override {
    const NormSpec& norm = block.spec().norm;
    block.own_tensor("self_attn.decay", {kInner});
    const Value q = block.linear("self_attn.", {"q_proj", kWidth}, x, false);
    block.norm_in_place("self_attn.q_norm", q, norm);
    const Value k = block.linear("self_attn.", {"k_proj", kInner}, q, false);
    const int64_t width = kInner;
    const Value echo = block.mix({k}, std::span(&width, 1))[0];
    return block.linear("self_attn.", {"o_proj", block.spec().hidden}, echo, false);
  }

  void mix(const MixCall& call) const override {
    const float* k = call.in[0];
    for (const MixedRows& s : call.sequences) {
      std::vector<float> last(kInner);
      if (s.state) last = static_cast<Last&>(*s.state).row;
      for (int64_t r = s.first_row; r < s.first_row + s.rows; ++r) {
        for (int64_t j = 0; j < kInner; ++j) {
          const auto c = static_cast<size_t>(j);
          call.out[0][r * kInner + j] = k[r * kInner + j] + call.own[0][c] * last[c];
          last[c] = k[r * kInner + j];
        }
      }
      if (s.state) static_cast<Last&>(*s.state).row = last;
    }
  }

  std::unique_ptr<MixerState> new_state(const ModelSpec&, int64_t) const override {
    return std::make_unique<Last>();
  }

 private:
  struct Last final : MixerState {
    std::vector<float> row = std::vector<float>(kInner);
  };
};

}  // namespace lewis
