// All methods against the plain ones, on shapes and values that loops get wrong.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "plain_methods.h"

namespace lewis {
namespace {

struct Case {
  Shape shape;
  Spread spread = Spread::kNormal;
  size_t models = 2;
  int variant = 0;

  std::string text() const {
    return to_string(shape) + " spread " + std::to_string(static_cast<int>(spread)) + " models " +
           std::to_string(models) + " variant " + std::to_string(variant);
  }
};

class BruteForce : public testing::TestWithParam<std::string_view> {
 protected:
  const MergeMethod& method() const { return find_merge_method(GetParam()); }

  TestTensor make(const Case& c) const {
    const size_t models = std::clamp(c.models, method().min_models, method().max_models);
    TestTensor t(static_cast<size_t>(element_count(c.shape)), models, 3);
    fill(t, c.spread, static_cast<uint32_t>(t.base.size() + models));
    t.task.shape = c.shape;
    const double densities[] = {0.3, 0.55, 0.82}, edges[] = {0.95, 1, 0}, weights[] = {1, 0.5, 0.7};
    const bool at_edges = c.variant == 3 && !method().reads("epsilon");
    for (size_t m = 0; m < models; ++m) {
      ModelParameters& p = t.task.models[m];
      const size_t which = (m + static_cast<size_t>(c.variant)) % 3;
      p.set("weight", weights[m]);
      p.set("density", at_edges ? edges[which] : densities[which]);
      p.set("gamma", c.variant == 1 ? 0.1 : c.variant == 3 ? 0.2 : 0.01);
      p.set("epsilon", 0.12);
      p.set("scale", 0.37);
    }
    // Task vectors of random numbers are orthogonal, of which model_stock makes nothing.
    if (GetParam() == "model_stock" && c.spread == Spread::kNormal) {
      for (auto& model : t.models) {
        for (size_t i = 0; i < model.size(); ++i) model[i] += std::sin(static_cast<float>(i));
      }
    }
    t.task.set("t", 0.3);
    t.task.set("epsilon", c.spread == Spread::kTiny ? 2e-41 : 0.05);
    t.task.set("r", 0.5);
    t.task.set("alpha", 0.9);
    if (c.variant == 1) {
      t.task.set("filter_wise", 1);
      t.task.set("nuslerp_flatten", 0);
      t.task.set("select_topk", 0.3);
      t.task.set("lambda", 0.8);
    }
    if (c.variant == 2) {
      t.task.set("nuslerp_flatten", 0);
      t.task.set("nuslerp_row_wise", 1);
      t.task.set("normalize", 1);
      t.task.set("rescale", 0);
    }
    return t;
  }

  std::vector<std::vector<size_t>> groups_of(const TestTensor& t) const {
    const bool by_row = GetParam() == "model_stock"
                            ? t.task.find("filter_wise").value_or(0) != 0
                            : t.task.find("nuslerp_flatten").value_or(1) == 0;
    if (!by_row || t.task.shape.size() < 2 || GetParam() == "slerp") return whole_tensor(t);
    return t.task.find("nuslerp_row_wise").value_or(0) != 0 ? columns_of(t) : rows_of(t);
  }

  // Methods along arcs: where the definition divides by what is about 0 a rounding decides.
  bool ill_conditioned(const TestTensor& t, bool with_base) const {
    if (is_matrix_method(GetParam())) {
      bool doubtful = false;
      plain_matrix_method(GetParam(), t, doubtful);
      return doubtful;
    }
    constexpr std::string_view kArcs[] = {"slerp", "nuslerp", "multislerp", "karcher",
                                          "model_stock"};
    if (std::find(std::begin(kArcs), std::end(kArcs), GetParam()) == std::end(kArcs)) return false;
    bool bad = false;
    by_groups(t, groups_of(t), [&](const std::vector<Vector>& models, const Vector& base) {
      std::vector<Vector> x = models;
      if (GetParam() == "slerp") {
        x.push_back(base);
      } else if (with_base) {
        for (Vector& v : x) v = sum_of(1, v, -1, base);
      }
      double cosine = 0;
      if (GetParam() == "model_stock") bad |= std::abs(stock_divisor(x, cosine)) < 0.05;
      for (size_t i = 0; i < x.size(); ++i) {
        for (size_t j = 0; j < i; ++j) bad |= plain_cosine(x[i], x[j]) < -0.99;
      }
      return base;
    });
    return bad;
  }

  void expect_close(const Case& c, const TestTensor& t, bool with_base) const {
    const std::vector<float> found =
        with_base ? t.merge_with_base(GetParam()) : t.merge(GetParam());
    const Vector expected = plain_merge(GetParam(), t, with_base);
    // Every entry of a decomposed matrix depends on all others.
    double layer = 0;
    if (is_matrix_method(GetParam())) {
      for (const auto& m : t.models) {
        for (size_t i = 0; i < m.size(); ++i)
          layer = std::max(layer, std::abs(static_cast<double>(m[i] - t.base[i])));
      }
    }
    for (size_t i = 0; i < found.size(); ++i) {
      double scale = layer + std::abs(static_cast<double>(t.base[i]));
      for (const auto& m : t.models) scale += std::abs(static_cast<double>(m[i]));
      // A few units in the last place of a float, and of a denormal one.
      const double tolerance = 1e-6 * std::max(scale, std::abs(expected[i])) + 1e-44;
      ASSERT_NEAR(static_cast<double>(found[i]), expected[i], tolerance)
          << GetParam() << ' ' << c.text() << (with_base ? " with a base" : "") << " at " << i;
    }
  }

  // Taken over or not; entries at the threshold itself may fall on either side.
  void expect_fusion(const Case& c, const TestTensor& t) const {
    const PlainImportance plain = plain_importance(t);
    const auto found = t.merge(GetParam());
    for (size_t i = 0; i < found.size(); ++i) {
      const double distance = plain.values[i] - plain.threshold;
      if (std::abs(distance) < 1e-5 * plain.threshold) continue;
      ASSERT_EQ(found[i], distance >= 0 ? t.models[0][i] : t.base[i]) << c.text() << " at " << i;
    }
  }

  void check(const Case& c) const {
    const TestTensor t = make(c);
    if (GetParam() == "arcee_fusion") {
      // Rows that are all but equal diverge by less than the noise of the plain version.
      if (c.spread != Spread::kOneGiant && c.spread != Spread::kFewRows) expect_fusion(c, t);
      return;
    }
    for (const bool with_base : {false, true}) {
      if (with_base != (method().base == BaseRole::kApart) &&
          !(with_base && method().base == BaseRole::kOptional))
        continue;
      if (!ill_conditioned(t, with_base)) expect_close(c, t, with_base);
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Merge, BruteForce, testing::ValuesIn(merge_method_names()),
                         [](const auto& test) { return std::string(test.param); });

// One element, one row, one column; around the widths of registers and the length of a chunk.
TEST_P(BruteForce, SmallShapes) {
  for (const Shape& shape :
       {Shape{1},    Shape{1, 1}, Shape{1, 2},  Shape{2, 1},   Shape{7},       Shape{8, 1},
        Shape{1, 9}, Shape{15},   Shape{16},    Shape{17},     Shape{3, 2, 5}, Shape{31},
        Shape{32},   Shape{33},   Shape{3, 21}, Shape{64},     Shape{5, 13},   Shape{33, 31},
        Shape{511},  Shape{512},  Shape{513},   Shape{2, 257}, Shape{1023},    Shape{41, 25}}) {
    for (const Spread spread : {Spread::kNormal, Spread::kHeavyTies, Spread::kTiny,
                                Spread::kMostlyZero, Spread::kUnchanged, Spread::kOneGiant}) {
      for (const size_t models : {1, 2, 3}) {
        for (const int variant : {0, 1, 2, 3}) check({shape, spread, models, variant});
        if (HasFatalFailure()) return;
      }
    }
  }
}

// Around the length of a slot; rows that are longer than it.
TEST_P(BruteForce, LargeShapes) {
  for (const Shape& shape :
       {Shape{16383}, Shape{128, 128}, Shape{5, 3277}, Shape{2, 16385}, Shape{16385, 2}}) {
    // The plain equations of wudi would have the square of the columns.
    if (GetParam() == "wudi" && shape.size() == 2 && shape[1] > 1000) continue;
    for (const Spread spread : {Spread::kHeavyTies, Spread::kMostlyZero, Spread::kOneGiant}) {
      for (const int variant : {0, 1, 2}) {
        check({shape, spread, variant == 2 ? size_t{3} : size_t{2}, variant});
        if (HasFatalFailure()) return;
      }
    }
  }
}

// More elements than are looked at without a sample.
TEST_P(BruteForce, SampledShapes) {
  if (is_matrix_method(GetParam())) GTEST_SKIP() << "takes no samples";
  for (const Spread spread : {Spread::kHeavyTies, Spread::kMostlyZero, Spread::kFewRows}) {
    check({{701, 401}, spread, 2, 1});
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace lewis
