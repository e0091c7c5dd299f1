// Blocks whose scales are searched for. Compiled without errno of mathematical functions, so that
// square roots are vectorised (CMakeLists.txt).
#include <algorithm>
#include <cmath>
#include <cstring>

#include "io/gguf_blocks/blocks.h"
#include "io/gguf_blocks/scale_search.h"

namespace lewis {
namespace {

constexpr size_t kGroups = kLanes;

float sum_of_squares(const float* x, size_t n) {
  float sum = 0;
  for (size_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

// weight = importance * sqrt(mean_square + x^2): where a column matters, large numbers do more.
LEWIS_VECTORIZED void weigh(const float* x, const float* importances, float mean_square, size_t n,
                            float* weights) {
  for (size_t i = 0; i < n; ++i) weights[i] = importances[i] * std::sqrt(mean_square + x[i] * x[i]);
}

// Turns groups of kSize numbers, one behind the other, into lanes.
template <int kSize>
[[gnu::always_inline]] inline void load(const float* in, Floats* out) {
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < kSize; ++i) out[i][lane] = in[lane * kSize + i];
  }
}

template <int kSize>
[[gnu::always_inline]] inline void store(const Ints* codes, uint8_t* out) {
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < kSize; ++i) out[lane * kSize + i] = static_cast<uint8_t>(codes[i][lane]);
  }
}

// 256 numbers of a row, which are eight blocks of 32 or one block, what they weigh, and what is
// found: codes, and a scale (and minimum) for each group of 32, or scales of groups of 16.
struct Stretch {
  std::array<float, kLargeBlock> x{}, weights{};
  std::array<float, 2 * kGroups> scale{}, minimum{};
  std::array<uint8_t, kLargeBlock> codes{};
};

// ---- blocks of 32 ----

LEWIS_VECTORIZED void search_scales(Stretch& blocks, int32_t half) {
  Groups<kSmallBlock> g;
  load<kSmallBlock>(blocks.x.data(), g.x);
  load<kSmallBlock>(blocks.weights.data(), g.weight);
  Floats scale;
  fit_scale(g, half, scale);
  std::memcpy(blocks.scale.data(), &scale, sizeof scale);
  store<kSmallBlock>(g.code, blocks.codes.data());
}

LEWIS_VECTORIZED void search_ranges(Stretch& blocks, const RangeSearch& search) {
  Groups<kSmallBlock> g;
  load<kSmallBlock>(blocks.x.data(), g.x);
  load<kSmallBlock>(blocks.weights.data(), g.weight);
  Floats scale, minimum;
  fit_range(g, search, scale, minimum);
  std::memcpy(blocks.scale.data(), &scale, sizeof scale);
  std::memcpy(blocks.minimum.data(), &minimum, sizeof minimum);
  store<kSmallBlock>(g.code, blocks.codes.data());
}

// The code whose step is nearest: one more for each neighbour that is not farther than the one
// below.
[[gnu::always_inline]] inline void code_steps(const Floats& x, Ints& code) {
  code = Ints{};
  for (size_t k = 1; k < kUnequalSteps.size(); ++k) {
    const float below = kUnequalSteps[k - 1], above = kUnequalSteps[k];
    code += x - below < above - x ? Ints{} : 1 - Ints{};
  }
}

struct StepSums {
  Floats xq{}, qq{};  // of weight * x * step, and of weight * step^2
};

[[gnu::always_inline]] inline void try_steps(const Groups<kSmallBlock>& g, const Floats& inverse,
                                             StepSums& sums) {
  for (size_t i = 0; i < kSmallBlock; ++i) {
    const Floats x = inverse * g.x[i];
    Floats step = kUnequalSteps[0] - Floats{};
    for (size_t k = 1; k < kUnequalSteps.size(); ++k) {
      const float below = kUnequalSteps[k - 1], above = kUnequalSteps[k];
      step = x - below < above - x ? step : above - Floats{};
    }
    sums.xq += g.weight[i] * step * g.x[i];
    sums.qq += g.weight[i] * step * step;
  }
}

LEWIS_VECTORIZED void search_steps(Stretch& blocks) {
  Groups<kSmallBlock> g;
  load<kSmallBlock>(blocks.x.data(), g.x);
  load<kSmallBlock>(blocks.weights.data(), g.weight);
  Floats size{}, largest{};
  for (const Floats& x : g.x) {
    Floats magnitude;
    magnitude_of(x, magnitude);
    const Ints above = magnitude > size;
    size = above ? magnitude : size;
    largest = above ? x : largest;
  }
  const float lowest = kUnequalSteps[0];
  StepSums first;
  try_steps(g, 1.0f / (-largest / lowest), first);
  Floats scale = first.qq > 0 ? first.xq / first.qq : Floats{};
  Floats best = scale * first.xq;
  for (int trial = -7; trial <= 7; ++trial) {
    StepSums sums;
    try_steps(g, (static_cast<float>(trial) + lowest) / largest, sums);
    const Ints better = (sums.qq > 0) & (sums.xq * sums.xq > best * sums.qq);
    scale = better ? sums.xq / sums.qq : scale;
    best = better ? scale * sums.xq : best;
  }
  scale = size < kAllZero ? Floats{} : scale;
  const Floats inverse = scale != 0 ? 1.0f / scale : Floats{};
  for (size_t i = 0; i < kSmallBlock; ++i) code_steps(inverse * g.x[i], g.code[i]);
  std::memcpy(blocks.scale.data(), &scale, sizeof scale);
  store<kSmallBlock>(g.code, blocks.codes.data());
}

void search(GgufType type, Stretch& blocks) {
  constexpr RangeSearch kFour = {15, -0.9f, 0.05f, 36, true}, kFive = {31, -0.9f, 0.05f, 36, true};
  if (type == GgufType::kIQ4_NL) return search_steps(blocks);
  if (type == GgufType::kQ4_0 || type == GgufType::kQ5_0)
    return search_scales(blocks, type == GgufType::kQ4_0 ? 8 : 16);
  search_ranges(blocks, type == GgufType::kQ4_1 ? kFour : kFive);
}

void pack(GgufType type, const Stretch& blocks, size_t block, std::byte* out) {
  const bool has_minimum = type == GgufType::kQ4_1 || type == GgufType::kQ5_1;
  const bool has_high = type == GgufType::kQ5_0 || type == GgufType::kQ5_1;
  put_half(blocks.scale[block], out);
  if (has_minimum) put_half(-blocks.minimum[block], out + 2);
  std::byte* rest = out + (has_minimum ? 4 : 2);
  pack_small(&blocks.codes[block * kSmallBlock], has_high ? rest : nullptr,
             has_high ? rest + 4 : rest);
}

// ---- blocks of 256 ----

LEWIS_VECTORIZED void search_sixteen(Stretch& block) {
  constexpr int kSize = 16;
  for (int part = 0; part < 2; ++part) {
    Groups<kSize> g;
    load<kSize>(&block.x[part * kSize * kLanes], g.x);
    load<kSize>(&block.weights[part * kSize * kLanes], g.weight);
    Floats scale;
    fit_scale(g, 32, scale);
    std::memcpy(&block.scale[part * kGroups], &scale, sizeof scale);
    store<kSize>(g.code, &block.codes[part * kSize * kLanes]);
  }
}

// codes = (x + minimum) / scale, rounded and cut to least..most, plus `add`. Groups whose scale is
// 0 keep theirs.
template <int kSize>
[[gnu::always_inline]] inline void code_again(const float* x, const Floats& scale,
                                              const Floats& minimum, int32_t least, int32_t most,
                                              uint8_t* codes) {
  Floats values[kSize];
  load<kSize>(x, values);
  for (int i = 0; i < kSize; ++i) {
    Ints code;
    round_to((values[i] + minimum) / scale, code);
    clamp(least, most, code);
    code -= least;
    for (int lane = 0; lane < kLanes; ++lane) {
      if (scale[lane] != 0) codes[lane * kSize + i] = static_cast<uint8_t>(code[lane]);
    }
  }
}

LEWIS_VECTORIZED void code_large(Stretch& block, const float* scales, const float* minima,
                                 int32_t most) {
  Floats scale, minimum;
  std::memcpy(&scale, scales, sizeof scale);
  std::memcpy(&minimum, minima, sizeof minimum);
  code_again<kSmallBlock>(block.x.data(), scale, minimum, 0, most, block.codes.data());
}

LEWIS_VECTORIZED void code_sixteen(Stretch& block, const float* scales) {
  constexpr int kSize = 16;
  for (int part = 0; part < 2; ++part) {
    Floats scale;
    std::memcpy(&scale, scales + part * kGroups, sizeof scale);
    code_again<kSize>(&block.x[part * kSize * kLanes], scale, Floats{}, -32, 31,
                      &block.codes[part * kSize * kLanes]);
  }
}

int nearest(float x) {
  Ints rounded;
  round_to(x - Floats{}, rounded);
  return rounded[0];
}

// Codes 0..63 of numbers >= 0, and their scale: of least squares with weights, improved code by
// code.
struct SixBits {
  std::array<uint8_t, kGroups> codes{};
  float scale = 0;
};

// The inverse of the scale that misses least, of eight near the one that maps the largest to 63.
float best_inverse(const float* x, const float* weights, float largest) {
  constexpr float kMost = 63;
  float best_inverse = kMost / largest, best = 0;
  for (int step = 0; step <= 8;
       ++step) {  // first the scale itself, then those from 4 below to 4 above
    const float offset = static_cast<float>(step <= 4 ? step - 5 : step - 4);
    const float inverse = step == 0 ? kMost / largest : (0.1f * offset + kMost) / largest;
    const float scale = 1 / inverse;
    float miss = 0;
    for (size_t i = 0; i < kGroups; ++i) {
      const float difference =
          x[i] - scale * static_cast<float>(std::min(63, nearest(inverse * x[i])));
      miss += weights[i] * difference * difference;
    }
    if (step > 0 && !(miss < best)) continue;
    best = miss;
    best_inverse = inverse;
  }
  return best_inverse;
}

// One pass over the codes; true when one has changed.
bool improve(const float* x, const float* weights, SixBits& found, float& xl, float& ll) {
  bool changed = false;
  for (size_t i = 0; i < kGroups; ++i) {
    const float w = weights[i], old = found.codes[i];
    float new_xl = xl - w * x[i] * old, new_ll = ll - w * old * old;
    if (!(new_xl > 0 && new_ll > 0)) continue;
    const int code = std::min(63, nearest(x[i] * new_ll / new_xl));
    if (code == found.codes[i]) continue;
    const auto level = static_cast<float>(code);
    new_xl += w * x[i] * level;
    new_ll += w * level * level;
    if (!(new_xl * new_xl * ll > xl * xl * new_ll)) continue;
    found.codes[i] = static_cast<uint8_t>(code);
    xl = new_xl;
    ll = new_ll;
    changed = true;
  }
  return changed;
}

SixBits fit_six_bits(const float* x, const float* weights) {
  SixBits found;
  const float largest = std::max(0.0f, *std::max_element(x, x + kGroups));
  if (largest < kAllZero) return found;
  const float inverse = best_inverse(x, weights, largest);
  float xl = 0, ll = 0;
  for (size_t i = 0; i < kGroups; ++i) {
    found.codes[i] = static_cast<uint8_t>(std::min(63, nearest(inverse * x[i])));
    const float level = found.codes[i];
    xl += weights[i] * x[i] * level;
    ll += weights[i] * level * level;
  }
  for (int pass = 0; pass < 5 && improve(x, weights, found, xl, ll); ++pass) {
  }
  found.scale = ll > 0 ? xl / ll : 0;
  return found;
}

// Six bits by the largest alone.
SixBits cut_six_bits(const float* x) {
  SixBits found;
  const float largest = std::max(0.0f, *std::max_element(x, x + kGroups));
  const float inverse = largest > 0 ? 63 / largest : 0;
  for (size_t i = 0; i < kGroups; ++i)
    found.codes[i] = std::min<uint8_t>(63, static_cast<uint8_t>(nearest(inverse * x[i])));
  found.scale = largest / 63;
  return found;
}

// Without importances: |x| plus the root mean square of the group.
void weigh_by_size(Stretch& block) {
  for (size_t group = 0; group < kGroups; ++group) {
    const float* x = &block.x[group * kSmallBlock];
    const float mean = std::sqrt(sum_of_squares(x, kSmallBlock) / kSmallBlock);
    for (size_t i = 0; i < kSmallBlock; ++i)
      block.weights[group * kSmallBlock + i] = mean + std::abs(x[i]);
  }
}

std::array<float, kGroups> sums_of_groups(const Stretch& block) {
  std::array<float, kGroups> sums{};
  for (size_t i = 0; i < kLargeBlock; ++i) sums[i / kSmallBlock] += block.weights[i];
  return sums;
}

// Writes scales, codes and, for Q5_K, their fifth bits.
void pack_k(GgufType type, const Stretch& block, std::byte* out) {
  const bool five = type == GgufType::kQ5_K;
  std::byte* high = out + 16;
  std::byte* low = five ? high + 32 : high;
  if (five) std::memset(high, 0, 32);
  for (size_t pair = 0; pair < 4; ++pair, low += 32) {
    const uint8_t* codes = &block.codes[64 * pair];
    for (size_t i = 0; i < 32; ++i) {
      low[i] = static_cast<std::byte>((codes[i] & 15) | (codes[i + 32] & 15) << 4);
      if (five)
        high[i] |= static_cast<std::byte>((codes[i] >> 4 | codes[i + 32] >> 4 << 1) << (2 * pair));
    }
  }
}

void encode_k_block(GgufType type, Stretch& block, const float* importances, std::byte* out) {
  const int32_t most = type == GgufType::kQ4_K ? 15 : 31;
  SixBits scales, minima;
  if (importances) {
    weigh(block.x.data(), importances,
          2 * sum_of_squares(block.x.data(), kLargeBlock) / kLargeBlock, kLargeBlock,
          block.weights.data());
    search_ranges(block, {most, -0.9f, 0.05f, 36, true});
    const auto sums = sums_of_groups(block);
    scales = fit_six_bits(block.scale.data(), sums.data());
    minima = fit_six_bits(block.minimum.data(), sums.data());
  } else {
    weigh_by_size(block);
    search_ranges(block, most == 15 ? RangeSearch{most, -1.0f, 0.1f, 20, false}
                                    : RangeSearch{most, -0.5f, 0.1f, 15, false});
    scales = cut_six_bits(block.scale.data());
    minima = cut_six_bits(block.minimum.data());
  }
  std::memset(out, 0, 16);
  put_half(scales.scale, out);
  put_half(minima.scale, out + 2);
  std::array<float, kGroups> scale{}, minimum{};
  for (size_t group = 0; group < kGroups; ++group) {
    put_scale({scales.codes[group], minima.codes[group]}, group, out + 4);
    scale[group] = get_half(out) * static_cast<float>(scales.codes[group]);
    minimum[group] = get_half(out + 2) * static_cast<float>(minima.codes[group]);
  }
  code_large(block, scale.data(), minimum.data(), most);
  pack_k(type, block, out);
}

void pack_q6(const Stretch& block, std::byte* low, std::byte* high) {
  for (size_t part = 0; part < 2; ++part, low += 64, high += 32) {
    const uint8_t* codes = &block.codes[128 * part];
    for (size_t i = 0; i < 32; ++i) {
      const unsigned a = codes[i], b = codes[i + 32], c = codes[i + 64], d = codes[i + 96];
      low[i] = static_cast<std::byte>((a & 15) | (c & 15) << 4);
      low[i + 32] = static_cast<std::byte>((b & 15) | (d & 15) << 4);
      high[i] = static_cast<std::byte>(a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6);
    }
  }
}

void encode_q6_block(Stretch& block, std::byte* out) {
  std::byte *high = out + 128, *scales = out + 192, *half = out + 208;
  search_sixteen(block);
  float largest = 0;
  for (const float scale : block.scale) {
    if (std::abs(scale) > std::abs(largest)) largest = scale;
  }
  if (std::abs(largest) < kAllZero) {
    std::memset(out, 0, gguf_type(GgufType::kQ6_K).bytes);
    return;
  }
  const float inverse = -128.0f / largest;
  put_half(1 / inverse, half);
  std::array<float, 2 * kGroups> scale{};
  for (size_t group = 0; group < scale.size(); ++group) {
    const auto code = static_cast<int8_t>(std::min(127, nearest(inverse * block.scale[group])));
    scales[group] = static_cast<std::byte>(code);
    scale[group] = get_half(half) * static_cast<float>(code);
  }
  code_sixteen(block, scale.data());
  pack_q6(block, out, high);
}

}  // namespace

void encode_small_blocks(GgufType type, std::span<const float> row,
                         std::span<const float> importances, std::byte* out) {
  const uint64_t bytes = gguf_type(type).bytes;
  const float mean_square = sum_of_squares(row.data(), row.size()) / static_cast<float>(row.size());
  for (size_t first = 0; first < row.size(); first += kLargeBlock) {
    const size_t n = std::min(kLargeBlock, row.size() - first);
    Stretch blocks;
    std::ranges::copy(row.subspan(first, n), blocks.x.begin());
    for (size_t i = 0; i < n; i += kSmallBlock) {
      const float* x = &row[first + i];
      float* weights = &blocks.weights[i];
      const float square = type == GgufType::kIQ4_NL
                               ? sum_of_squares(x, kSmallBlock) * (2.0f / kSmallBlock)
                               : mean_square;
      if (!importances.empty()) {
        weigh(x, &importances[first + i], square, kSmallBlock, weights);
      } else {
        for (size_t j = 0; j < kSmallBlock; ++j) weights[j] = x[j] * x[j];
      }
    }
    search(type, blocks);
    for (size_t i = 0; i < n / kSmallBlock; ++i, out += bytes) pack(type, blocks, i, out);
  }
}

void encode_k_blocks(GgufType type, std::span<const float> row, std::span<const float> importances,
                     std::byte* out) {
  for (size_t i = 0; i + kLargeBlock <= row.size();
       i += kLargeBlock, out += gguf_type(type).bytes) {
    Stretch block;
    std::ranges::copy(row.subspan(i, kLargeBlock), block.x.begin());
    encode_k_block(type, block, importances.empty() ? nullptr : &importances[i], out);
  }
}

void encode_q6_blocks(std::span<const float> row, std::span<const float> importances,
                      std::byte* out) {
  for (size_t i = 0; i + kLargeBlock <= row.size();
       i += kLargeBlock, out += gguf_type(GgufType::kQ6_K).bytes) {
    Stretch block;
    std::ranges::copy(row.subspan(i, kLargeBlock), block.x.begin());
    for (size_t j = 0; j < kLargeBlock; ++j)
      block.weights[j] = importances.empty() ? block.x[j] * block.x[j] : importances[i + j];
    encode_q6_block(block, out);
  }
}

}  // namespace lewis
