#include "compute/cpu/bf16_kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/dtype.h"
#include "plain_math.h"

namespace lewis {
namespace {

struct Named {
  const char* name;
  const Bf16Kernels* kernels;
};
std::vector<Named> all_kernels() {
  std::vector<Named> found = {{"plain", plain_bf16_kernels()}};
  for (const Named& k :
       {Named{"AVX512_BF16", avx512_bf16_kernels()}, Named{"AMX", amx_bf16_kernels()}}) {
    if (k.kernels) found.push_back(k);
  }
  return found;
}

std::vector<uint16_t> random_bf16(int64_t n, uint32_t seed) {
  std::vector<uint16_t> values;
  for (const float v : random_floats(n, seed)) values.push_back(float_to_bf16(v));
  return values;
}

// Makes the panels of b [k, n] pair by pair. 16 values that must not be read follow each panel.
std::vector<uint32_t> panels_of(const std::vector<uint16_t>& b, int64_t k, int64_t n) {
  std::vector<uint32_t> panels;
  for (int64_t panel = 0; panel < n / 16; ++panel) {
    for (int64_t pair = 0; pair < k / 2; ++pair) {
      for (int64_t j = panel * 16; j < panel * 16 + 16; ++j)
        panels.push_back(b[2 * pair * n + j] | static_cast<uint32_t>(b[(2 * pair + 1) * n + j])
                                                   << 16);
    }
    panels.insert(panels.end(), 16, 0x7fc07fc0);
  }
  return panels;
}

TEST(Bf16Kernels, MultiplyAsInDoublePrecision) {
  for (const auto& [name, kernels] : all_kernels()) {
    for (const auto& [m, n, k] :
         {std::tuple{16, 16, 32}, {16, 48, 64}, {48, 16, 32}, {64, 96, 160}}) {
      const int64_t a_stride = k + 8, c_stride = n + 3;
      const auto a = random_bf16(m * a_stride, 1), b = random_bf16(k * n, 2);
      const auto panels = panels_of(b, k, n);
      for (const bool accumulate : {false, true}) {
        auto c = random_floats(m * c_stride, 3);
        const auto before = c;
        kernels->multiply({m, n, k, a.data(), a_stride, panels.data(), k / 2 * 16 + 16, c.data(),
                           c_stride, accumulate});
        for (int64_t i = 0; i < m; ++i) {
          for (int64_t j = 0; j < n; ++j) {
            double sum = accumulate ? before[i * c_stride + j] : 0;
            for (int64_t l = 0; l < k; ++l)
              sum += static_cast<double>(bf16_to_float(a[i * a_stride + l])) *
                     bf16_to_float(b[l * n + j]);
            ASSERT_NEAR(c[i * c_stride + j], sum, 5e-5) << name << " " << m << " " << n << " " << k;
          }
          for (int64_t j = n; j < c_stride; ++j)
            ASSERT_EQ(c[i * c_stride + j], before[i * c_stride + j]);
        }
      }
    }
  }
}

TEST(Bf16Kernels, RoundToTheNearest) {
  auto x = random_floats(1000, 4);
  for (const float v : {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1.00390625f, 1.01171875f, 3.4e38f,
                        std::numeric_limits<float>::max(), 1.2e-38f})
    x.push_back(v);
  for (const auto& [name, kernels] : all_kernels()) {
    for (const size_t n : {size_t{1}, size_t{15}, size_t{16}, size_t{33}, x.size()}) {
      const float* from = x.data() + x.size() - n;
      std::vector<uint16_t> y(n + 1, 7);
      kernels->round(from, static_cast<int64_t>(n), y.data());
      for (size_t i = 0; i < n; ++i) {
        if (std::isnan(from[i])) {
          EXPECT_TRUE(std::isnan(bf16_to_float(y[i]))) << name;
        } else {
          EXPECT_EQ(y[i], float_to_bf16(from[i])) << name << " " << from[i];
        }
      }
      EXPECT_EQ(y[n], 7) << name;
    }
  }
}

TEST(Bf16Kernels, SplitIsExact) {
  auto x = random_floats(1000, 4);
  for (const float v :
       {0.0f, -0.0f, 1.0f, std::numeric_limits<float>::max(), 1.2e-28f, 16777215.0f})
    x.push_back(v);
  std::vector<uint16_t> parts[3];
  for (auto& part : parts) part.resize(x.size());
  split_bf16(x.data(), static_cast<int64_t>(x.size()),
             {parts[0].data(), parts[1].data(), parts[2].data()});
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(
        (bf16_to_float(parts[2][i]) + bf16_to_float(parts[1][i])) + bf16_to_float(parts[0][i]),
        x[i]);
    EXPECT_LE(std::abs(bf16_to_float(parts[1][i])), std::abs(x[i]) * 0x1p-7f);
    EXPECT_LE(std::abs(bf16_to_float(parts[2][i])), std::abs(x[i]) * 0x1p-15f);
  }
  for (const float v : {INFINITY, NAN}) {
    uint16_t high, middle, low;
    split_bf16(&v, 1, {&high, &middle, &low});
    EXPECT_TRUE(std::isnan(bf16_to_float(high) + bf16_to_float(middle) + bf16_to_float(low)));
  }
}

TEST(Bf16Kernels, PanelsOfRowsAndOfTheirTranspose) {
  const int64_t width = 96;
  const auto rows = random_bf16(16 * width, 5);
  std::vector<uint32_t> columns(16 * width / 2), panels(columns.size());
  pair_columns(rows.data(), width, columns.data());
  pair_rows(rows.data(), width, panels.data(), 8 * 16);
  for (int64_t r = 0; r < 16; ++r) {
    for (int64_t i = 0; i < width; ++i) {
      const auto half = [](uint32_t pair, int64_t which) {
        return static_cast<uint16_t>(pair >> (16 * which));
      };
      EXPECT_EQ(half(columns[i / 2 * 16 + r], i % 2), rows[r * width + i]);
      EXPECT_EQ(half(panels[i / 16 * 8 * 16 + r / 2 * 16 + i % 16], r % 2), rows[r * width + i]);
    }
  }
}

}  // namespace
}  // namespace lewis
