// Methods that choose entries, against plain versions that sort.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "tensors.h"

namespace lewis {
namespace {

using Vector = std::vector<double>;

std::vector<size_t> order_by_magnitude(
    const Vector& v) {  // largest first, of equal ones the lower index
  std::vector<size_t> order(v.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return std::abs(v[a]) > std::abs(v[b]); });
  return order;
}

Vector delta_of(const TestTensor& t, size_t m) {
  Vector d(t.base.size());
  for (size_t i = 0; i < d.size(); ++i) d[i] = t.models[m][i] - t.base[i];
  return d;
}

void expect_close(const std::vector<float>& found, const Vector& expected,
                  const std::string& what) {
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found[i], expected[i], 1e-6 + 1e-6 * std::abs(expected[i])) << what << " at " << i;
  }
}

TestTensor tensor(size_t n, size_t models, Spread spread) {
  TestTensor t(n, models);
  fill(t, spread, static_cast<uint32_t>(n + models));
  return t;
}

const std::vector<size_t> kSizes = {1, 2, 17, 99, 1023, 1025, 16385, 40000, 500001};

TEST(Breadcrumbs, BruteForce) {
  for (const size_t n : kSizes) {
    for (const Spread spread : {Spread::kNormal, Spread::kHeavyTies, Spread::kTiny}) {
      for (const auto& [density, gamma] :
           {std::pair{0.5, 0.1}, {0.95, 0.2}, {0.7, 0.0}, {1.0, 0.1}, {0.0, 0.1}}) {
        TestTensor t = tensor(n, 1, spread);
        t.task.models[0].density = density;
        t.task.models[0].gamma = gamma;
        const Vector d = delta_of(t, 0);
        const auto target = static_cast<size_t>(density * static_cast<double>(n));
        const size_t top =
            std::min(static_cast<size_t>(gamma * static_cast<double>(n)), n - target);
        Vector expected(t.base.begin(), t.base.end());
        const auto order = order_by_magnitude(d);
        for (size_t r = top; r < top + target; ++r) expected[order[r]] += d[order[r]];
        expect_close(t.merge("breadcrumbs"), expected,
                     "n " + std::to_string(n) + " density " + std::to_string(density));
      }
    }
  }
}

// Larger entries are kept more often, by the probabilities of their ranks; the seed decides.
TEST(Della, KeepsByRankWithinTheRow) {
  const int64_t rows = 3000, columns = 5;
  TestTensor t = tensor(static_cast<size_t>(rows * columns), 1, Spread::kNormal);
  t.task.shape = {rows, columns};
  t.task.rescale = 0;
  t.task.models[0].density = 0.5;
  t.task.models[0].epsilon = 0.4;
  const Vector d = delta_of(t, 0);
  const auto merged = t.merge("della_linear");
  std::vector<double> kept(columns);
  for (int64_t row = 0; row < rows; ++row) {
    const Vector here(d.begin() + row * columns, d.begin() + (row + 1) * columns);
    const auto order = order_by_magnitude(here);
    for (size_t r = 0; r < order.size(); ++r) {
      const size_t i = static_cast<size_t>(row * columns) + order[r];
      kept[r] += merged[i] != t.base[i];
    }
  }
  for (size_t r = 0; r < kept.size(); ++r) {
    const double p = 0.9 - 0.2 * static_cast<double>(r);
    EXPECT_NEAR(kept[r] / rows, p, 4 * std::sqrt(p * (1 - p) / rows)) << r;
  }
  EXPECT_EQ(merged, t.merge("della_linear"));
}

TEST(Della, RescaleKeepsTheNormAndBadProbabilitiesAreRefused) {
  TestTensor t = tensor(20000, 1, Spread::kNormal);
  t.task.shape = {200, 100};
  std::fill(t.base.begin(), t.base.end(), 0.0f);
  t.task.models[0].density = 0.6;
  double before = 0, after = 0;
  const auto merged = t.merge("della_linear");
  for (size_t i = 0; i < merged.size(); ++i) {
    before += std::abs(t.models[0][i]);
    after += std::abs(merged[i]);
  }
  EXPECT_NEAR(after / before, 1, 1e-6);
  t.task.models[0].density = 0.1;  // epsilon 0.15
  EXPECT_THROW(t.merge("della"), Error);
  t.task.models[0].density = 0.9;
  EXPECT_THROW(t.merge("della"), Error);
}

TEST(Sce, BruteForce) {
  for (const size_t n : kSizes) {
    for (const Spread spread : {Spread::kNormal, Spread::kMostlyZero, Spread::kHeavyTies}) {
      for (const double share : {0.1, 0.6, 1.0}) {
        TestTensor t = tensor(n, 3, spread);
        t.task.select_topk = share;
        std::vector<Vector> d = {delta_of(t, 0), delta_of(t, 1), delta_of(t, 2)};
        Vector variance(n);
        for (size_t i = 0; i < n; ++i) {
          const double mean = (d[0][i] + d[1][i] + d[2][i]) / 3;
          for (const Vector& v : d) variance[i] += (v[i] - mean) * (v[i] - mean) / 3;
          variance[i] = static_cast<float>(variance[i]);
        }
        if (share < 1) {
          const auto differing =
              std::count_if(variance.begin(), variance.end(), [](double v) { return v != 0; });
          const auto order = order_by_magnitude(variance);
          for (size_t r = static_cast<size_t>(static_cast<double>(differing) * share); r < n; ++r) {
            for (Vector& v : d) v[order[r]] = 0;
          }
        }
        double weights[3] = {}, all = 0;
        for (size_t m = 0; m < 3; ++m) {
          for (const double v : d[m]) weights[m] += v * v;
          all += weights[m];
        }
        Vector expected(n);
        for (size_t i = 0; i < n; ++i) {
          const double sign = d[0][i] + d[1][i] + d[2][i] >= 0 ? 1 : -1;
          double mixed = 0, divisor = 0;
          for (size_t m = 0; m < 3; ++m) {
            if (d[m][i] * sign <= 0) continue;
            mixed += d[m][i] * weights[m] / all;
            divisor += weights[m] / all;
          }
          expected[i] = t.base[i] + mixed / std::max(divisor, 1e-6);
        }
        expect_close(t.merge("sce"), expected,
                     "n " + std::to_string(n) + " share " + std::to_string(share));
      }
    }
  }
}

TEST(Ram, BruteForce) {
  for (const size_t n : kSizes) {
    for (const bool plus : {false, true}) {
      TestTensor t = tensor(n, 3, Spread::kHeavyTies);
      t.task.epsilon = 0.05;
      t.task.r = 0.5;
      t.task.alpha = 0.9;
      const Vector d[] = {delta_of(t, 0), delta_of(t, 1), delta_of(t, 2)};
      std::vector<int> changed(n);
      for (const Vector& v : d) {
        for (size_t i = 0; i < n; ++i) changed[i] += std::abs(v[i]) > 0.05f;
      }
      double own[3], shared[3];
      for (size_t m = 0; m < 3; ++m) {
        own[m] = shared[m] = 0;
        for (size_t i = 0; i < n; ++i) {
          if (std::abs(d[m][i]) > 0.05f) ++(changed[i] > 1 ? shared : own)[m];
        }
      }
      Vector expected(t.base.begin(), t.base.end());
      for (size_t m = 0; m < 3; ++m) {
        const double factor = plus && own[m] > 0 ? 1 + 0.5 * std::min(0.9, shared[m] / own[m]) : 1;
        for (size_t i = 0; i < n; ++i) {
          if (std::abs(d[m][i]) <= 0.05f) continue;
          expected[i] += changed[i] == 1 ? factor * d[m][i] : d[m][i] / changed[i];
        }
      }
      expect_close(t.merge(plus ? "ramplus_tl" : "ram"), expected, "n " + std::to_string(n));
    }
  }
}

TEST(Nearswap, BruteForce) {
  for (const size_t n : kSizes) {
    TestTensor t = tensor(n, 1, Spread::kHeavyTies);
    t.task.t = 0.05;
    Vector expected(n);
    for (size_t i = 0; i < n; ++i) {
      const double w = std::clamp(
          0.05 / std::max(std::abs(static_cast<double>(t.models[0][i]) - t.base[i]), 1e-6), 0.0,
          1.0);
      expected[i] = w * t.models[0][i] + (1 - w) * t.base[i];
    }
    expect_close(t.merge("nearswap"), expected, "n " + std::to_string(n));
  }
}

TEST(Passthrough, Scales) {
  TestTensor t = tensor(5000, 1, Spread::kNormal);
  t.task.models[0].scale = 0.25;
  const auto merged = t.merge("passthrough");
  for (size_t i = 0; i < merged.size(); ++i) EXPECT_EQ(merged[i], 0.25f * t.models[0][i]);
}

// Everything is the base's or the model's; what is taken over is what the plain importance says,
// but for entries at the threshold itself.
TEST(ArceeFusion, BruteForce) {
  for (const auto& [rows, columns] :
       {std::pair<size_t, size_t>{1, 1}, {1, 500}, {37, 53}, {300, 130}, {3, 20001}}) {
    TestTensor t = tensor(rows * columns, 1, Spread::kNormal);
    t.task.shape = {static_cast<int64_t>(rows), static_cast<int64_t>(columns)};
    Vector importance(rows * columns);
    for (size_t r = 0; r < rows; ++r) {
      double a = 0, b = 0, divergence = 0;
      for (size_t i = r * columns; i < (r + 1) * columns; ++i) {
        a += std::exp(static_cast<double>(t.models[0][i]));
        b += std::exp(static_cast<double>(t.base[i]));
      }
      for (size_t i = r * columns; i < (r + 1) * columns; ++i) {
        const double p = std::exp(static_cast<double>(t.models[0][i])) / a + 1e-8,
                     q = std::exp(static_cast<double>(t.base[i])) / b + 1e-8;
        divergence += p * std::log(p / q);
      }
      for (size_t i = r * columns; i < (r + 1) * columns; ++i)
        importance[i] = std::abs(static_cast<double>(t.models[0][i]) - t.base[i]) * divergence;
    }
    Vector sorted = importance;
    std::sort(sorted.begin(), sorted.end());
    const auto quantile = [&](double q) {
      return sorted[static_cast<size_t>(q * static_cast<double>(sorted.size() - 1))];
    };
    const double threshold = quantile(0.5) + 1.5 * (quantile(0.75) - quantile(0.25));
    const auto merged = t.merge("arcee_fusion");
    for (size_t i = 0; i < merged.size(); ++i) {
      if (std::abs(importance[i] - threshold) < 1e-5 * threshold) continue;
      ASSERT_EQ(merged[i], importance[i] >= threshold ? t.models[0][i] : t.base[i]) << i;
    }
  }
}

}  // namespace
}  // namespace lewis
