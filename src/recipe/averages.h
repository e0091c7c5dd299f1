// Averages of the checkpoints of one training run: the weights that the literature gives them.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "base/enum_names.h"

namespace lewis {

// outputs[].average: how the weights of checkpoints follow from their order, the oldest first.
enum class Average { kUniform, kLawa, kPma, kEma, kWma, kLinearDecay, kSqrtDecay, kCosineDecay };
template <>
inline constexpr auto kEnumNames<Average> =
    std::to_array<EnumName<Average>>({{Average::kUniform, "uniform"},
                                      {Average::kLawa, "lawa"},
                                      {Average::kPma, "pma"},
                                      {Average::kEma, "ema"},
                                      {Average::kWma, "wma"},
                                      {Average::kLinearDecay, "linear_decay"},
                                      {Average::kSqrtDecay, "sqrt_decay"},
                                      {Average::kCosineDecay, "cosine_decay"}});

// Some of `count` things in a row: of the first or the last so many (not both), every so many-th,
// counted back from the newest, so that the newest is among them.
struct Window {
  std::optional<size_t> first, last;
  size_t every = 1;

  // Their places, in ascending order. Nothing when there are fewer things than `first` or `last`.
  std::vector<size_t> of(size_t count) const;
  // "the last 10, every 2nd"; "" when it takes all.
  std::string words() const;
};

// The weights of `count` checkpoints, the oldest first. They are positive, and linear divides by
// their sum; where the formula gives whole numbers they are these, so that no rounding precedes the
// sum. `alpha`, the weight of the newest, is for kEma: 0 < alpha <= 1.
//
//   kUniform, kLawa, kPma: 1. LAWA is the mean of the k latest checkpoints (Kaddour, "Stop Wasting
//     My Time!", arXiv 2209.14981), PMA of N checkpoints V apart ("Model Merging in
//     Pre-training of Large Language Models", arXiv 2505.12082; its SMA).
//   kEma: M(1) = x(1), M(i) = alpha x(i) + (1 - alpha) M(i-1) (the same paper).
//   kWma: i for the i-th, counted from 1 (the same, WMA).
//   the decays: c(j) = w(j) - w(j + 1) with w(0) = 1, w(count) = 0 imitates a learning rate that
//     falls as w from the oldest checkpoint on ("WSM: Decay-Free Learning Rate Schedule via
//     Checkpoint Merging", arXiv 2507.17634, its theorem on weights of gradients). With x = j /
//     count: kLinearDecay: w = 1 - x, which is the uniform mean; kSqrtDecay: w = 1 - sqrt(x);
//     kCosineDecay: w = (1 + cos(pi x)) / 2.
std::vector<double> average_weights(Average average, size_t count, double alpha);

}  // namespace lewis
