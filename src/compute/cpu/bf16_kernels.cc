#include "compute/cpu/bf16_kernels.h"

#include <bit>
#include <cstring>

#include "base/dtype.h"
#include "compute/backend.h"

#ifdef __x86_64__
#include <dnnl.h>
#include <immintrin.h>
#endif

namespace lewis {
namespace {

void round_plain(const float* x, int64_t n, uint16_t* y) {
  narrow({x, static_cast<size_t>(n)}, DType::kBF16, reinterpret_cast<std::byte*>(y));
}

// The columns of one panel, and pairs of them. The compiler uses several registers for each.
typedef float Columns __attribute__((vector_size(4 * PanelProduct::kPanel)));
typedef uint32_t Pairs __attribute__((vector_size(4 * PanelProduct::kPanel)));

LEWIS_VECTORIZED void multiply_plain(const PanelProduct& p) {
  constexpr int64_t kPanel = PanelProduct::kPanel, kRows = 4;
  for (int64_t j = 0; j < p.n; j += kPanel) {
    for (int64_t i = 0; i < p.m; i += kRows) {
      const uint32_t* b = p.b + j / kPanel * p.panel_stride;
      float* c = p.c + i * p.c_stride + j;
      Columns sums[kRows] = {};
      for (int64_t r = 0; r < kRows && p.accumulate; ++r)
        std::memcpy(&sums[r], c + r * p.c_stride, sizeof sums[r]);
      for (int64_t k = 0; k < p.k; k += 2, b += kPanel) {
        Pairs pairs;
        std::memcpy(&pairs, b, sizeof pairs);
        const Pairs low = pairs << 16, high = pairs & 0xffff0000u;
        Columns first, second;
        std::memcpy(&first, &low, sizeof first);
        std::memcpy(&second, &high, sizeof second);
#pragma GCC unroll 4
        for (int64_t r = 0; r < kRows; ++r) {
          const uint16_t* a = p.a + (i + r) * p.row_stride + k;
          sums[r] += first * bf16_to_float(a[0]);
          sums[r] += second * bf16_to_float(a[1]);
        }
      }
      for (int64_t r = 0; r < kRows; ++r) std::memcpy(c + r * p.c_stride, &sums[r], sizeof sums[r]);
    }
  }
}

}  // namespace

#ifdef __x86_64__
namespace {

// The operating system must allow the instructions too: oneDNN asks it for AMX's registers.
bool has(unsigned isa) { return (dnnl_get_effective_cpu_isa() & isa) == isa; }

#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,avx2,fma")

void round_avx512(const float* x, int64_t n, uint16_t* y) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(x + i));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i), (__m256i)rounded);
  }
  if (i == n) return;
  const auto rest = static_cast<__mmask16>((1u << (n - i)) - 1);
  const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(rest, x + i));
  _mm256_mask_storeu_epi16(y + i, rest, (__m256i)rounded);
}

// Computes rows [i, i + 8) of panels [j, j + panels).
template <int panels>
[[gnu::always_inline]] inline void dot_block(const PanelProduct& p, int64_t i, int64_t j) {
  constexpr int kRows = 8;
  __m512 sums[kRows][panels];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int q = 0; q < panels; ++q) {
      sums[r][q] = p.accumulate ? _mm512_loadu_ps(p.c + (i + r) * p.c_stride + (j + q) * 16)
                                : _mm512_setzero_ps();
    }
  }
  for (int64_t pair = 0; pair < p.k / 2; ++pair) {
    __m512i b[panels];
#pragma GCC unroll 2
    for (int q = 0; q < panels; ++q) {
      b[q] = _mm512_loadu_si512(p.b + (j + q) * p.panel_stride + pair * 16);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      int32_t factors;
      __builtin_memcpy(&factors, p.a + (i + r) * p.row_stride + 2 * pair, sizeof factors);
      const __m512i a = _mm512_set1_epi32(factors);
#pragma GCC unroll 2
      for (int q = 0; q < panels; ++q) {
        sums[r][q] = _mm512_dpbf16_ps(sums[r][q], (__m512bh)a, (__m512bh)b[q]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (int q = 0; q < panels; ++q) {
      _mm512_storeu_ps(p.c + (i + r) * p.c_stride + (j + q) * 16, sums[r][q]);
    }
  }
}

void multiply_avx512(const PanelProduct& p) {
  const int64_t panels = p.n / 16;
  for (int64_t j = 0; j < panels; j += 2) {
    for (int64_t i = 0; i < p.m; i += 8) {
      j + 2 <= panels ? dot_block<2>(p, i, j) : dot_block<1>(p, i, j);
    }
  }
}

#pragma GCC pop_options

// Eight tiles of 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr TileConfig kTiles;

#pragma GCC push_options
#pragma GCC target("amx-tile,amx-bf16")

// Computes rows [i, i + 16 tiles) of panels [j, j + panels). Tiles 0 to 3 hold sums, 4 and 5 rows
// of a, 6 and 7 panels of b.
template <int tiles, int panels>
[[gnu::always_inline]] inline void tile_block(const PanelProduct& p, int64_t i, int64_t j) {
  float* c = p.c + i * p.c_stride + j * 16;
  float* lower = c + 16 * p.c_stride;
  const int64_t c_bytes = p.c_stride * 4, a_bytes = p.row_stride * 2;
  if (p.accumulate) {
    _tile_loadd(0, c, c_bytes);
    if constexpr (panels == 2) _tile_loadd(1, c + 16, c_bytes);
    if constexpr (tiles == 2) _tile_loadd(2, lower, c_bytes);
    if constexpr (tiles == 2 && panels == 2) _tile_loadd(3, lower + 16, c_bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const uint16_t* a = p.a + i * p.row_stride;
  const uint32_t* b = p.b + j * p.panel_stride;
  for (int64_t k = 0; k < p.k; k += 32, a += 32, b += 16 * 16) {
    _tile_loadd(4, a, a_bytes);
    _tile_loadd(6, b, 64);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (panels == 2) {
      _tile_loadd(7, b + p.panel_stride, 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (tiles == 2) {
      _tile_loadd(5, a + 16 * p.row_stride, a_bytes);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (panels == 2) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c, c_bytes);
  if constexpr (panels == 2) _tile_stored(1, c + 16, c_bytes);
  if constexpr (tiles == 2) _tile_stored(2, lower, c_bytes);
  if constexpr (tiles == 2 && panels == 2) _tile_stored(3, lower + 16, c_bytes);
}

void multiply_amx(const PanelProduct& p) {
  const int64_t panels = p.n / 16;
  _tile_loadconfig(&kTiles);
  for (int64_t j = 0; j < panels; j += 2) {
    for (int64_t i = 0; i < p.m; i += 32) {
      const bool two_rows = i + 32 <= p.m;
      if (j + 2 <= panels) {
        two_rows ? tile_block<2, 2>(p, i, j) : tile_block<1, 2>(p, i, j);
      } else {
        two_rows ? tile_block<2, 1>(p, i, j) : tile_block<1, 1>(p, i, j);
      }
    }
  }
  _tile_release();
}

#pragma GCC pop_options

}  // namespace

const Bf16Kernels* amx_bf16_kernels() {
  static constexpr Bf16Kernels kKernels = {multiply_amx, round_avx512};
  return has(dnnl_cpu_isa_avx512_core_amx) ? &kKernels : nullptr;
}

const Bf16Kernels* avx512_bf16_kernels() {
  static constexpr Bf16Kernels kKernels = {multiply_avx512, round_avx512};
  return has(dnnl_cpu_isa_avx512_core_bf16) ? &kKernels : nullptr;
}

#else
const Bf16Kernels* amx_bf16_kernels() { return nullptr; }
const Bf16Kernels* avx512_bf16_kernels() { return nullptr; }
#endif

namespace {

LEWIS_VECTORIZED void split_values(const float* x, int64_t n,
                                   const std::array<uint16_t*, 3>& parts) {
  const auto [high, middle, low] = parts;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t first = std::bit_cast<uint32_t>(x[i]) & 0xffff0000u;
    const float rest = x[i] - std::bit_cast<float>(first);
    const uint32_t second = std::bit_cast<uint32_t>(rest) & 0xffff0000u;
    const float last = rest - std::bit_cast<float>(second);
    high[i] = static_cast<uint16_t>(first >> 16);
    middle[i] = static_cast<uint16_t>(second >> 16);
    low[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(last) >> 16);
  }
}

LEWIS_VECTORIZED void interleave_columns(const uint16_t* rows, int64_t width, uint32_t* panel) {
  constexpr int64_t kPanel = PanelProduct::kPanel;
  for (int64_t i = 0; i < width / 2; ++i) {
    for (int64_t r = 0; r < kPanel; ++r) {
      std::memcpy(panel + i * kPanel + r, rows + r * width + 2 * i, sizeof *panel);
    }
  }
}

LEWIS_VECTORIZED void interleave_rows(const uint16_t* rows, int64_t width, uint32_t* panels,
                                      int64_t panel_stride) {
  constexpr int64_t kPanel = PanelProduct::kPanel;
  for (int64_t first = 0; first < width; first += kPanel, panels += panel_stride) {
    for (int64_t r = 0; r < kPanel; r += 2) {
      const uint16_t *upper = rows + r * width + first, *lower = upper + width;
      for (int64_t i = 0; i < kPanel; ++i) {
        panels[r / 2 * kPanel + i] = upper[i] | static_cast<uint32_t>(lower[i]) << 16;
      }
    }
  }
}

}  // namespace

void split_bf16(const float* x, int64_t n, const std::array<uint16_t*, 3>& parts) {
  split_values(x, n, parts);
}
void pair_columns(const uint16_t* rows, int64_t width, uint32_t* panel) {
  interleave_columns(rows, width, panel);
}
void pair_rows(const uint16_t* rows, int64_t width, uint32_t* panels, int64_t panel_stride) {
  interleave_rows(rows, width, panels, panel_stride);
}

const Bf16Kernels* plain_bf16_kernels() {
  static constexpr Bf16Kernels kKernels = {multiply_plain, round_plain};
  return &kKernels;
}

const Bf16Kernels& best_bf16_kernels() {
  static const Bf16Kernels* const best = amx_bf16_kernels()      ? amx_bf16_kernels()
                                         : avx512_bf16_kernels() ? avx512_bf16_kernels()
                                                                 : plain_bf16_kernels();
  return *best;
}

// AMX multiplies bfloat16 several times as fast as float32. vdpbf16ps alone is 2.8 times as fast on
// AMD's cores from Zen 4 on, but 0.6 times as fast on Intel's (docs/performance.md).
ComputeType faster_compute_type() {
#ifdef __x86_64__
  __builtin_cpu_init();
  if (amx_bf16_kernels() || (avx512_bf16_kernels() && __builtin_cpu_is("amd")))
    return ComputeType::kBF16;
#endif
  return ComputeType::kF32;
}

}  // namespace lewis
