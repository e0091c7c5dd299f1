// Methods that go along arcs, against plain versions on the vectors themselves in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tensors.h"

namespace lewis {
namespace {

using Vector = std::vector<double>;

double dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}
double norm(const Vector& a) { return std::sqrt(dot(a, a)); }
Vector sum_of(double x, const Vector& a, double y, const Vector& b) {
  Vector c(a.size());
  for (size_t i = 0; i < a.size(); ++i) c[i] = x * a[i] + y * b[i];
  return c;
}

Vector plain_slerp(double t, const Vector& a, const Vector& b, double line_from) {
  const double lengths = norm(a) * norm(b);
  const double cosine = lengths > 0 ? std::clamp(dot(a, b) / lengths, -1.0, 1.0) : 0.0;
  const double angle = std::acos(cosine);
  if (std::abs(cosine) > line_from || std::sin(angle) < 1e-8) return sum_of(1 - t, a, t, b);
  return sum_of(std::sin((1 - t) * angle) / std::sin(angle), a,
                std::sin(t * angle) / std::sin(angle), b);
}

// Elements of vector v of a [rows, columns] tensor along the last or the first dimension.
std::vector<size_t> elements_of(const Shape& shape, bool along_first, size_t v) {
  std::vector<size_t> elements;
  const auto rows = static_cast<size_t>(shape[0]), columns = static_cast<size_t>(shape[1]);
  for (size_t i = 0; i < (along_first ? rows : columns); ++i) {
    elements.push_back(along_first ? i * columns + v : v * columns + i);
  }
  return elements;
}

template <typename F>  // f(vectors of the models, vector of the base) -> vector
Vector by_vectors(const TestTensor& t, const std::vector<std::vector<size_t>>& groups, const F& f) {
  Vector out(t.base.size());
  for (const auto& group : groups) {
    std::vector<Vector> models;
    for (const auto& m : t.models) {
      Vector& v = models.emplace_back();
      for (const size_t i : group) v.push_back(m[i]);
    }
    Vector base;
    for (const size_t i : group) base.push_back(t.base[i]);
    const Vector result = f(models, base);
    for (size_t i = 0; i < group.size(); ++i) out[group[i]] = result[i];
  }
  return out;
}

std::vector<std::vector<size_t>> whole(size_t n) {
  std::vector<std::vector<size_t>> group(1);
  for (size_t i = 0; i < n; ++i) group[0].push_back(i);
  return group;
}

void expect_close(const std::vector<float>& found, const Vector& expected,
                  const std::string& what) {
  for (size_t i = 0; i < found.size(); ++i) {
    ASSERT_NEAR(found[i], expected[i], 1e-6 + 1e-6 * std::abs(expected[i])) << what << " at " << i;
  }
}

Vector difference(const Vector& a, const Vector& b) { return sum_of(1, a, -1, b); }

class Geometry : public testing::Test {
 protected:
  static TestTensor tensor(size_t n, size_t models, Spread spread = Spread::kNormal) {
    TestTensor t(n, models);
    fill(t, spread, static_cast<uint32_t>(n * 7 + models));
    t.task.t = 0.3;
    for (size_t m = 0; m < models; ++m)
      t.task.models[m].weight = 0.4 + 0.3 * static_cast<double>(m);
    return t;
  }
  const std::vector<size_t> sizes_ = {1, 2, 17, 1023, 1025, 16385, 40000};
};

TEST_F(Geometry, Slerp) {
  for (const size_t n : sizes_) {
    for (const Spread spread : {Spread::kNormal, Spread::kMostlyZero}) {  // an arc, and a line
      TestTensor t = tensor(n, 1, spread);
      const Vector expected = by_vectors(
          t, whole(n), [](auto& m, auto& b) { return plain_slerp(0.3, b, m[0], 0.9995); });
      expect_close(t.merge("slerp"), expected, "slerp " + std::to_string(n));
    }
  }
}

TEST_F(Geometry, SlerpEndsAreTheModels) {
  TestTensor t = tensor(5000, 1);
  t.task.t = 0;
  EXPECT_EQ(t.merge("slerp"), t.base);
  t.task.t = 1;
  EXPECT_EQ(t.merge("slerp"), t.models[0]);
}

TEST_F(Geometry, NuslerpAlongEverything) {
  for (const Shape& shape :
       {Shape{1, 40}, Shape{40, 1}, Shape{37, 53}, Shape{300, 130}, Shape{2, 20000}}) {
    const auto n = static_cast<size_t>(element_count(shape));
    TestTensor t = tensor(n, 2);
    t.task.shape = shape;
    const auto arc = [](auto& m, auto&) { return plain_slerp(0.7 / 1.1, m[0], m[1], 2); };
    expect_close(t.merge("nuslerp"), by_vectors(t, whole(n), arc), "flat");
    for (const bool first : {false, true}) {
      t.task.nuslerp_flatten = 0;
      t.task.nuslerp_row_wise = first;
      std::vector<std::vector<size_t>> groups;
      for (size_t v = 0; v < static_cast<size_t>(shape[first ? 1 : 0]); ++v)
        groups.push_back(elements_of(shape, first, v));
      expect_close(t.merge("nuslerp"), by_vectors(t, groups, arc),
                   first ? "along the first" : "along the last");
      const auto of_deltas = [](auto& m, auto& b) {
        return sum_of(1, b, 1, plain_slerp(0.7 / 1.1, difference(m[0], b), difference(m[1], b), 2));
      };
      expect_close(t.merge_with_base("nuslerp"), by_vectors(t, groups, of_deltas), "with a base");
    }
  }
}

Vector plain_multislerp(const std::vector<Vector>& x, const Vector& weights) {
  const double eps = 1e-8;
  double all = 0;
  for (const double w : weights) all += w;
  std::vector<Vector> unit;
  Vector mean(x[0].size());
  double lengths = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    unit.push_back(sum_of(1 / (norm(x[i]) + eps), x[i], 0, x[i]));
    mean = sum_of(1, mean, weights[i] / all, unit[i]);
    lengths += weights[i] / all * norm(x[i]);
  }
  mean = sum_of(1 / norm(mean), mean, 0, mean);
  Vector tangent(mean.size());
  for (size_t i = 0; i < x.size(); ++i) {
    tangent = sum_of(1, tangent, weights[i] / all, sum_of(1, unit[i], -dot(unit[i], mean), mean));
  }
  const double r = norm(tangent) + eps;
  const Vector direction = sum_of(std::cos(r), mean, std::sin(r) / r, tangent);
  return sum_of(lengths, direction, 0, direction);
}

TEST_F(Geometry, Multislerp) {
  for (const size_t n : {size_t{2}, size_t{17}, size_t{1025}, size_t{20000}}) {
    TestTensor t = tensor(n, 3);
    const Vector weights = {0.4, 0.7, 1.0};
    expect_close(
        t.merge("multislerp"),
        by_vectors(t, whole(n), [&](auto& m, auto&) { return plain_multislerp(m, weights); }),
        "plain");
    const auto of_deltas = [&](auto& m, auto& b) {
      return sum_of(1, b, 1,
                    plain_multislerp(
                        {difference(m[0], b), difference(m[1], b), difference(m[2], b)}, weights));
    };
    expect_close(t.merge_with_base("multislerp"), by_vectors(t, whole(n), of_deltas),
                 "with a base");
  }
}

Vector plain_karcher(const std::vector<Vector>& x) {
  const auto n = static_cast<double>(x.size());
  Vector u(x[0].size());
  double lengths = 0;
  for (const Vector& v : x) {
    u = sum_of(1, u, 1 / norm(v) / n, v);
    lengths += norm(v) / n;
  }
  u = sum_of(1 / norm(u), u, 0, u);
  for (int step = 0; step < 10; ++step) {
    Vector tangent(u.size());
    for (const Vector& v : x) {
      const double cosine = std::clamp(dot(u, v) / norm(v), -1.0, 1.0), angle = std::acos(cosine);
      if (angle < 1e-5) continue;
      tangent = sum_of(1, tangent, angle / std::sin(angle) / n, sum_of(1 / norm(v), v, -cosine, u));
    }
    const double length = norm(tangent);
    if (length < 1e-5) break;
    u = sum_of(std::cos(length), u, std::sin(length) / length, tangent);
    u = sum_of(1 / norm(u), u, 0, u);
  }
  return sum_of(lengths, u, 0, u);
}

TEST_F(Geometry, Karcher) {
  for (const size_t n : {size_t{2}, size_t{17}, size_t{1025}, size_t{20000}}) {
    TestTensor t = tensor(n, 3);
    expect_close(t.merge("karcher"),
                 by_vectors(t, whole(n), [](auto& m, auto&) { return plain_karcher(m); }),
                 "karcher");
  }
}

Vector plain_stock(const std::vector<Vector>& x, const Vector& base) {
  const auto n = static_cast<double>(x.size());
  double cosine = 0, pairs = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    for (size_t j = i + 1; j < x.size(); ++j, ++pairs) {
      const Vector a = difference(x[i], base), b = difference(x[j], base);
      const double lengths = norm(a) * norm(b);
      cosine += lengths > 0 ? dot(a, b) / lengths : 0;
    }
  }
  cosine /= pairs;
  const double t = n * cosine / (1 + (n - 1) * cosine);
  Vector mean(base.size());
  for (const Vector& v : x) mean = sum_of(1, mean, 1 / n, v);
  return sum_of(t, mean, 1 - t, base);
}

TEST_F(Geometry, ModelStock) {
  for (const Shape& shape : {Shape{1, 40}, Shape{37, 53}, Shape{300, 130}, Shape{2, 20000}}) {
    const auto n = static_cast<size_t>(element_count(shape));
    TestTensor t = tensor(n, 3);
    // Task vectors that agree somewhat: random ones are orthogonal, where t says nothing.
    for (size_t i = 0; i < n; ++i) {
      for (auto& m : t.models) m[i] += std::sin(static_cast<float>(i));
    }
    t.task.shape = shape;
    expect_close(t.merge("model_stock"), by_vectors(t, whole(n), plain_stock), "whole");
    t.task.filter_wise = 1;
    std::vector<std::vector<size_t>> rows;
    for (size_t v = 0; v < static_cast<size_t>(shape[0]); ++v)
      rows.push_back(elements_of(shape, false, v));
    expect_close(t.merge("model_stock"), by_vectors(t, rows, plain_stock), "rows");
  }
}

}  // namespace
}  // namespace lewis
