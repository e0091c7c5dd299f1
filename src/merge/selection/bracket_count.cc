#include "merge/selection/bracket_count.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lewis {
namespace {

// How many magnitudes may lie strictly between the ends.
uint32_t width_between(const Bracket& b) { return b.high > b.low ? b.high - b.low - 1 : 0; }

// inside[i]: whether value i lies between the ends.
LEWIS_VECTORIZED BracketCount classify(const Differences values, size_t n, const Bracket b,
                                       uint32_t width, uint8_t* inside) {
  uint32_t above = 0, from_high = 0, at_low = 0;
  for (size_t i = 0; i < n; ++i) {
    const uint32_t m = values.magnitude(i);
    above += static_cast<uint32_t>(m > b.high);
    from_high += static_cast<uint32_t>(m >= b.high);
    at_low += static_cast<uint32_t>(m == b.low);
    inside[i] = static_cast<uint8_t>(m - b.low - 1 < width);
  }
  return {above, from_high - above, at_low, 0};
}

#if defined(__x86_64__)
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,popcnt")

// Counts of 16 lanes each, and where the next magnitude from between the ends goes.
struct LaneCounts {
  __m512i above, at_high, at_low;
  uint32_t* next;
};

[[gnu::always_inline]] inline void count_16(__m512 a, __m512 b, __mmask16 lanes, __m512i low,
                                            __m512i high, __m512i width, LaneCounts& counts) {
  const __m512i one = _mm512_set1_epi32(1);
  const __m512i m =
      _mm512_and_si512(_mm512_castps_si512(_mm512_sub_ps(a, b)), _mm512_set1_epi32(0x7fffffff));
  const auto add = [&](__m512i sum, __mmask16 which) {
    return _mm512_mask_add_epi32(sum, which, sum, one);
  };
  counts.above = add(counts.above, _mm512_mask_cmpgt_epu32_mask(lanes, m, high));
  counts.at_high = add(counts.at_high, _mm512_mask_cmpeq_epu32_mask(lanes, m, high));
  counts.at_low = add(counts.at_low, _mm512_mask_cmpeq_epu32_mask(lanes, m, low));
  const __mmask16 inside =
      _mm512_mask_cmplt_epu32_mask(lanes, _mm512_sub_epi32(m, _mm512_add_epi32(low, one)), width);
  _mm512_storeu_si512(counts.next, _mm512_maskz_compress_epi32(inside, m));
  counts.next += std::popcount(static_cast<uint32_t>(inside));
}

// Collects by compressing registers: no branch that a processor could guess wrong.
BracketCount count_avx512(const Differences& values, size_t n, const Bracket& b,
                          uint32_t* between) {
  const __m512i low = _mm512_set1_epi32(static_cast<int>(b.low));
  const __m512i high = _mm512_set1_epi32(static_cast<int>(b.high));
  const __m512i width = _mm512_set1_epi32(static_cast<int>(width_between(b)));
  uint32_t room[kChunkElements + 16];  // a store writes 16, of which the next overwrites some
  LaneCounts counts = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                       room};
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    if (i % Ahead::kStep == 0) values.ahead.ask(i);
    count_16(_mm512_loadu_ps(values.a + i), _mm512_loadu_ps(values.b + i), 0xffff, low, high, width,
             counts);
  }
  if (i < n) {
    const auto lanes = static_cast<__mmask16>((1u << (n - i)) - 1);
    count_16(_mm512_maskz_loadu_ps(lanes, values.a + i), _mm512_maskz_loadu_ps(lanes, values.b + i),
             lanes, low, high, width, counts);
  }
  const auto inside = static_cast<uint32_t>(counts.next - room);
  std::copy_n(room, inside, between);
  const auto sum = [](__m512i lanes) {
    uint32_t of_lane[16];
    _mm512_storeu_si512(of_lane, lanes);
    return std::accumulate(of_lane, of_lane + 16, 0u);
  };
  return {sum(counts.above), sum(counts.at_high), b.low == b.high ? 0 : sum(counts.at_low), inside};
}

#pragma GCC pop_options

bool has_avx512() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
  return has;
}
#endif

}  // namespace

BracketCount count_in_bracket_plainly(const Differences& values, size_t n, const Bracket& b,
                                      uint32_t* between) {
  values.ahead.ask(0, n);
  uint8_t inside[kChunkElements + 8];
  std::memset(inside + n, 0, 8);
  BracketCount count = classify(values, n, b, width_between(b), inside);
  if (b.low == b.high) count.at_low = 0;
  for (size_t word = 0; word < n; word += 8) {  // few hold any
    uint64_t any = 0;
    std::memcpy(&any, inside + word, 8);
    for (; any != 0; any &= any - 1) {
      const auto byte = static_cast<size_t>(std::countr_zero(any)) / 8;
      between[count.inside++] = values.magnitude(word + byte);
    }
  }
  return count;
}

BracketCount count_in_bracket(const Differences& values, size_t n, const Bracket& b,
                              uint32_t* between) {
#if defined(__x86_64__)
  if (has_avx512()) return count_avx512(values, n, b, between);
#endif
  return count_in_bracket_plainly(values, n, b, between);
}

}  // namespace lewis
