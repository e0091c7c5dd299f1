// What mixers share that carry a state from token to token: a short convolution before the
// recurrence, and the checks of the state.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/mixer.h"

namespace lewis {

// The memory of a sequence: the last inputs of the convolution, and the recurrence's own values.
struct RecurrentState final : MixerState {
  RecurrentState(int64_t conv_values, int64_t state_values)
      : before(static_cast<size_t>(conv_values)), values(static_cast<size_t>(state_values)) {}
  int64_t positions = 0;      // tokens that it holds
  std::vector<float> before;  // [kernel - 1, channels], the oldest first; zero before the text
  std::vector<float> values;  // zero before the text
};

// The states of a call's sequences: those that they have, or new ones that end with the call.
class CallStates {
 public:
  // Error(kFailed) where a sequence goes on at another position than its state.
  CallStates(const MixCall& call, int64_t conv_values, int64_t values);
  RecurrentState& operator[](size_t sequence) const { return *states_[sequence]; }
  // Counts the tokens of the call. Error(kInput) that names model and layer where a value of a
  // state is not finite.
  void finish(const MixCall& call);

 private:
  std::vector<RecurrentState*> states_;
  std::vector<std::unique_ptr<RecurrentState>> own_;
};

// A causal convolution of each channel for itself, in place on x [rows, channels] of all sequences:
// x[t] = sum_k weight[k] x[t - kernel + 1 + k] (+ bias), where a sequence begins with its state.
struct ShortConv {
  int64_t channels = 0, kernel = 0;
  std::span<const float> weight;  // [channels, kernel], as stored
  std::span<const float> bias;    // [channels], or empty
};
void run_short_conv(const ShortConv& conv, const MixCall& call, const CallStates& states, float* x);

// log(1 + exp(x)), and x itself where that is the same in float.
float softplus(float x);

}  // namespace lewis
