// The search for the scales of blocks: eight groups of numbers at a time, one per lane of a vector.
// Within a lane the order of all sums is that of ggml 0.26.0, so the bytes are its, too. For
// functions that are LEWIS_VECTORIZED, into which all of this is inlined.
#pragma once

#include "io/gguf_blocks/lanes.h"

namespace lewis {

// Number i of each group, how much the square of its error counts, and the code that it gets.
template <int kSize>
struct Groups {
  Floats x[kSize], weight[kSize];
  Ints code[kSize];
};

// x rounded to a whole number, halves to even, if |x| < 2^22: adding 1.5 * 2^23 leaves it in the
// low bits. Of larger ones, infinity and NaN it is what their bits are.
[[gnu::always_inline]] inline void round_to(const Floats& x, Ints& out) {
  const Floats sum = x + 12582912.0f;
  out = ((Ints)sum & 0x007fffff) - 0x00400000;
}

// ---- codes around 0: x is about scale * (code - half) ----

struct ScaleSums {
  Floats xl{}, ll{};  // of weight * x * level, and of weight * level^2
};

template <int kSize>
[[gnu::always_inline]] inline void try_scale(const Groups<kSize>& g, const Floats& inverse,
                                             int32_t half, Ints* codes, ScaleSums& sums) {
  for (int i = 0; i < kSize; ++i) {
    Ints level;
    round_to(inverse * g.x[i], level);
    clamp(-half, half - 1, level);
    codes[i] = level + half;
    const Floats l = __builtin_convertvector(level, Floats);
    sums.xl += g.weight[i] * g.x[i] * l;
    sums.ll += g.weight[i] * l * l;
  }
}

constexpr float kAllZero = 1e-15f;  // smaller magnitudes are none

// The scale of least squares for the codes that each of 19 scales near largest / -half gives; the
// best of them. A group without magnitude gets scale and codes 0.
template <int kSize>
[[gnu::always_inline]] inline void fit_scale(Groups<kSize>& g, int32_t half, Floats& scale) {
  Floats size{}, largest{};
  for (int i = 0; i < kSize; ++i) {
    Floats magnitude;
    magnitude_of(g.x[i], magnitude);
    const Ints above = magnitude > size;
    size = above ? magnitude : size;
    largest = above ? g.x[i] : largest;
  }
  ScaleSums first;
  try_scale(g, static_cast<float>(-half) / largest, half, g.code, first);
  scale = first.ll != 0 ? first.xl / first.ll : Floats{};
  Floats best = scale * first.xl;
  for (int step = -9; step <= 9; ++step) {
    if (step == 0) continue;
    const float span = -(static_cast<float>(half) + 0.1f * static_cast<float>(step));
    ScaleSums sums;
    Ints codes[kSize];
    try_scale(g, span / largest, half, codes, sums);
    const Ints better = (sums.ll > 0) & (sums.xl * sums.xl > best * sums.ll);
    if (!any(better)) continue;
    for (int i = 0; i < kSize; ++i) g.code[i] = better ? codes[i] : g.code[i];
    scale = better ? sums.xl / sums.ll : scale;
    best = better ? scale * sums.xl : best;
  }
  const Ints empty = size < kAllZero;
  scale = empty ? Floats{} : scale;
  for (int i = 0; i < kSize; ++i) g.code[i] = empty ? Ints{} : g.code[i];
}

// ---- codes 0..most: x is about scale * code + least ----

// Which scales are tried: (first + step * i + most) / range, i = 0..steps.
struct RangeSearch {
  int32_t most;
  float first, step;
  int steps;
  // Codes of trials are cut off before they are rounded, so that a range of nearly nothing, whose
  // inverse is infinite, has defined codes.
  bool cut_first;
};

template <int kSize>
[[gnu::always_inline]] inline void code_range(const Groups<kSize>& g, const Floats& inverse,
                                              const Floats& least, int32_t most, bool cut_first,
                                              Ints* codes) {
  for (int i = 0; i < kSize; ++i) {
    Floats value = inverse * (g.x[i] - least);
    if (cut_first) {
      const float cut = static_cast<float>(most);
      value = value > 0 ? value : Floats{};
      value = value < cut ? value : cut - Floats{};
    }
    round_to(value, codes[i]);
    clamp(0, most, codes[i]);
  }
}

template <int kSize>
[[gnu::always_inline]] inline void add_errors(const Groups<kSize>& g, const Ints* codes,
                                              const Floats& scale, const Floats& least,
                                              Floats& error) {
  for (int i = 0; i < kSize; ++i) {
    const Floats miss = scale * __builtin_convertvector(codes[i], Floats) + least - g.x[i];
    error += g.weight[i] * (miss * miss);
  }
}

struct RangeSums {
  Floats weight{}, x{}, l{}, ll{}, xl{};  // of weights times 1, x, level, level^2, level * x
};

// Scale and least value of least squares for given codes; least is not above 0. `is_one` is false
// where the codes are all alike.
[[gnu::always_inline]] inline void solve_range(const RangeSums& s, Floats& scale, Floats& least,
                                               Ints& is_one) {
  const Floats determinant = s.weight * s.ll - s.l * s.l;
  is_one = determinant > 0;
  scale = (s.weight * s.xl - s.x * s.l) / determinant;
  least = (s.ll * s.x - s.l * s.xl) / determinant;
  const Ints above = least > 0;
  scale = above ? s.xl / s.ll : scale;
  least = above ? Floats{} : least;
}

template <int kSize>
struct RangeStart {
  Floats least, most;
  RangeSums sums;
};

template <int kSize>
[[gnu::always_inline]] inline void start_range(const Groups<kSize>& g, RangeStart<kSize>& start) {
  start.least = start.most = g.x[0];
  start.sums.weight = g.weight[0];
  start.sums.x = g.weight[0] * g.x[0];
  for (int i = 1; i < kSize; ++i) {
    start.least = g.x[i] < start.least ? g.x[i] : start.least;
    start.most = g.x[i] > start.most ? g.x[i] : start.most;
    start.sums.weight += g.weight[i];
    start.sums.x += g.weight[i] * g.x[i];
  }
  start.least = start.least > 0 ? Floats{} : start.least;
}

// The codes, scale and minimum (-least, at least 0) of the smallest weighted error. A group whose
// numbers are all alike gets scale and codes 0.
template <int kSize>
[[gnu::always_inline]] inline void fit_range(Groups<kSize>& g, const RangeSearch& search,
                                             Floats& scale, Floats& minimum) {
  RangeStart<kSize> start;
  start_range(g, start);
  const Ints flat = start.most <= start.least;
  Floats least = start.least;
  Floats inverse = static_cast<float>(search.most) / (start.most - least);
  scale = 1.0f / inverse;
  code_range(g, inverse, least, search.most, false, g.code);
  Floats best{};
  add_errors(g, g.code, scale, least, best);
  for (int step = 0; step <= search.steps; ++step) {
    const float span =
        search.first + search.step * static_cast<float>(step) + static_cast<float>(search.most);
    Ints codes[kSize];
    code_range(g, span / (start.most - least), least, search.most, search.cut_first, codes);
    RangeSums sums = start.sums;
    for (int i = 0; i < kSize; ++i) {
      const Floats l = __builtin_convertvector(codes[i], Floats);
      sums.l += g.weight[i] * l;
      sums.ll += g.weight[i] * l * l;
      sums.xl += g.weight[i] * l * g.x[i];
    }
    Floats new_scale, new_least, error{};
    Ints better;
    solve_range(sums, new_scale, new_least, better);
    add_errors(g, codes, new_scale, new_least, error);
    better &= error < best;
    if (!any(better)) continue;
    for (int i = 0; i < kSize; ++i) g.code[i] = better ? codes[i] : g.code[i];
    best = better ? error : best;
    scale = better ? new_scale : scale;
    least = better ? new_least : least;
  }
  scale = flat ? Floats{} : scale;
  minimum = -(flat ? start.least : least);
  for (int i = 0; i < kSize; ++i) g.code[i] = flat ? Ints{} : g.code[i];
}

}  // namespace lewis
