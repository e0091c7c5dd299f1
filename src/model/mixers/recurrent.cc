#include "model/mixers/recurrent.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace lewis {
namespace {

constexpr int64_t kChannels = 256;  // of one piece of work

// Channels [first, first + n) of one sequence, x [rows, stride], the last row first: a row needs
// those before it as they were.
LEWIS_VECTORIZED void convolve(float* x, int64_t rows, int64_t stride, const float* before,
                               const float* weight, const float* bias, int64_t kernel, int64_t n) {
  float sum[kChannels];
  for (int64_t t = rows; t-- > 0;) {
    for (int64_t c = 0; c < n; ++c) sum[c] = bias ? bias[c] : 0;
    for (int64_t k = 0; k < kernel; ++k) {
      const int64_t row = t - kernel + 1 + k;
      const float* from = row >= 0 ? x + row * stride : before + (row + kernel - 1) * stride;
      for (int64_t c = 0; c < n; ++c) sum[c] += weight[k * kChannels + c] * from[c];
    }
    std::copy_n(sum, n, x + t * stride);
  }
}

}  // namespace

CallStates::CallStates(const MixCall& call, int64_t conv_values, int64_t values) {
  for (const MixedRows& s : call.sequences) {
    if (!s.state) {
      own_.push_back(std::make_unique<RecurrentState>(conv_values, values));
      states_.push_back(own_.back().get());
      continue;
    }
    states_.push_back(&dynamic_cast<RecurrentState&>(*s.state));
    if (states_.back()->positions != s.first_position) {
      throw failed_error("a layer's state ends at position {}, not {}", states_.back()->positions,
                         s.first_position);
    }
  }
}

void CallStates::finish(const MixCall& call) {
  for (size_t i = 0; i < states_.size(); ++i) {
    states_[i]->positions += call.sequences[i].rows;
    if (std::ranges::all_of(states_[i]->values, [](float v) { return std::isfinite(v); })) continue;
    throw input_error(
        "{}: the state of layer {} holds infinity or NaN after {} tokens, expected finite values: "
        "the weights before it are too large for float32 or damaged",
        call.model, call.layer, states_[i]->positions);
  }
}

void run_short_conv(const ShortConv& conv, const MixCall& call, const CallStates& states,
                    float* x) {
  const int64_t channels = conv.channels, kernel = conv.kernel, kept = kernel - 1;
  const auto blocks = static_cast<size_t>((channels + kChannels - 1) / kChannels);
  call.threads.run(call.sequences.size() * blocks, [&](size_t piece) {
    const MixedRows& s = call.sequences[piece / blocks];
    const int64_t first = static_cast<int64_t>(piece % blocks) * kChannels;
    const int64_t n = std::min(kChannels, channels - first);
    std::vector<float> weight(static_cast<size_t>(kernel * kChannels));
    for (int64_t c = 0; c < n; ++c) {
      for (int64_t k = 0; k < kernel; ++k)
        weight[static_cast<size_t>(k * kChannels + c)] =
            conv.weight[static_cast<size_t>((first + c) * kernel + k)];
    }
    float* rows = x + s.first_row * channels + first;
    float* before = states[piece / blocks].before.data() + first;
    std::vector<float> after(static_cast<size_t>(kept * n));  // the next rows' `before`
    for (int64_t k = 0; k < kept; ++k) {
      const int64_t row = s.rows - kept + k;
      const float* from = row >= 0 ? rows + row * channels : before + (row + kept) * channels;
      std::copy_n(from, n, after.data() + k * n);
    }
    convolve(rows, s.rows, channels, before, weight.data(),
             conv.bias.empty() ? nullptr : conv.bias.data() + first, kernel, n);
    for (int64_t k = 0; k < kept; ++k) std::copy_n(after.data() + k * n, n, before + k * channels);
  });
}

float softplus(float x) { return x > 20 ? x : std::log1p(std::exp(x)); }

}  // namespace lewis
