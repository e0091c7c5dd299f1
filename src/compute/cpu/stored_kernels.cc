#include "compute/cpu/stored_kernels.h"

#include <algorithm>
#include <cstring>

#include "base/dtype.h"
#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace lewis {

// hold() keeps inputs that several weights need in a register. The compiler would load them again
// for each weight, and loading would take longer than multiplying.

namespace baseline {
namespace {
constexpr int kLanes = 4;
constexpr int kSums = 8;  // registers for sums
typedef float Lanes __attribute__((vector_size(4 * kLanes)));
inline void widen_half(const std::byte* p, float (*to_float)(uint16_t), Lanes& v) {
  float values[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    uint16_t half = 0;
    std::memcpy(&half, p + 2 * i, 2);
    values[i] = to_float(half);
  }
  std::memcpy(&v, values, sizeof v);
}
inline void widen_bf16(const std::byte* p, Lanes& v) { widen_half(p, bf16_to_float, v); }
inline void widen_f16(const std::byte* p, Lanes& v) { widen_half(p, f16_to_float, v); }
inline void hold(Lanes&) {}
#include "compute/cpu/stored_kernels.inc"
}  // namespace
}  // namespace baseline

#ifdef __x86_64__
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
namespace avx2 {
namespace {
constexpr int kLanes = 8;
constexpr int kSums = 8;
typedef __m256 Lanes;
[[gnu::always_inline]] inline __m128i load_halves(const std::byte* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
[[gnu::always_inline]] inline void widen_bf16(const std::byte* p, Lanes& v) {
  v = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_halves(p)), 16));
}
[[gnu::always_inline]] inline void widen_f16(const std::byte* p, Lanes& v) {
  v = _mm256_cvtph_ps(load_halves(p));
}
[[gnu::always_inline]] inline void hold(Lanes& v) { __asm__("" : "+x"(v)); }
#include "compute/cpu/stored_kernels.inc"
}  // namespace
}  // namespace avx2
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx2,fma")
namespace avx512 {
namespace {
constexpr int kLanes = 16;
constexpr int kSums = 24;
typedef __m512 Lanes;
[[gnu::always_inline]] inline __m256i load_halves(const std::byte* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
// These use a mask of ones, because g++ 12 warns about the undefined value in the plain intrinsics.
[[gnu::always_inline]] inline void widen_bf16(const std::byte* p, Lanes& v) {
  const __m512i words = _mm512_maskz_cvtepu16_epi32(0xffff, load_halves(p));
  v = _mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, words, 16));
}
[[gnu::always_inline]] inline void widen_f16(const std::byte* p, Lanes& v) {
  v = _mm512_maskz_cvtph_ps(0xffff, load_halves(p));
}
[[gnu::always_inline]] inline void hold(Lanes& v) { __asm__("" : "+v"(v)); }
#include "compute/cpu/stored_kernels.inc"
}  // namespace
}  // namespace avx512
#pragma GCC pop_options
#endif

const StoredKernels& best_stored_kernels() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    return avx512::kKernels;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    return avx2::kKernels;
  }
#endif
  return baseline::kKernels;
}

}  // namespace lewis
