// Laws of the methods that take task vectors as matrices. BruteForce and GoldenMerge compare their
// numbers.
#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "plain_methods.h"

namespace lewis {
namespace {

constexpr std::string_view kMethods[] = {"iso_c", "tsv_m", "wudi", "resmerge"};

TestTensor random_layer(Shape shape, size_t models, uint32_t seed) {
  TestTensor t(static_cast<size_t>(element_count(shape)), models);
  fill(t, Spread::kNormal, seed);
  t.task.shape = shape;
  return t;
}

PlainMatrix delta_of(const TestTensor& t, const std::vector<float>& merged) {
  PlainMatrix d(static_cast<size_t>(t.task.rows()), static_cast<size_t>(t.task.columns()));
  for (size_t i = 0; i < merged.size(); ++i)
    d.values[i] = static_cast<double>(merged[i]) - static_cast<double>(t.base[i]);
  return d;
}

// Models whose task vectors have rows and columns of their own: they do not meet.
TestTensor disjoint_layer() {
  TestTensor t = random_layer({24, 20}, 2, 5);
  for (size_t i = 0; i < t.base.size(); ++i) {
    const size_t row = i / 20, column = i % 20;
    if (row >= 8 || column >= 9) t.models[0][i] = t.base[i];
    if (row < 10 || column < 11) t.models[1][i] = t.base[i];
  }
  return t;
}

Vector sum_of_deltas(const TestTensor& t) {
  return sum_of(1, plain_delta(t, 0), 1, plain_delta(t, 1));
}

void expect_near(const Vector& found, const Vector& expected, double tolerance) {
  for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], tolerance) << i;
}

TEST(MatrixMethods, IsoCMakesAllSingularValuesTheMeanOfThoseOfTheSum) {
  const TestTensor t = random_layer({40, 24}, 3, 1);
  PlainMatrix sum(40, 24);
  for (size_t m = 0; m < 3; ++m) sum.values = sum_of(1, sum.values, 1, plain_delta(t, m));
  double mean = 0;
  for (const double s : plain_svd(sum).s) mean += s / 24;
  for (const double s : plain_svd(delta_of(t, t.merge("iso_c"))).s) EXPECT_NEAR(s, mean, 1e-5);
}

TEST(MatrixMethods, TaskVectorsThatDoNotMeetAreAddedUp) {
  TestTensor t = disjoint_layer();
  for (const double ridge : {1e-6, 0.01, 10.0}) {
    t.task.set("ridge", ridge);
    expect_near(delta_of(t, t.merge("wudi")).values, sum_of_deltas(t), 2e-6);
  }
  expect_near(delta_of(t, t.merge("tsv_m")).values, sum_of_deltas(t), 2e-6);
}

// sum_k |(tau - tau_k) tau_k^T|^2 / |tau_k|^2: equation 10 of the paper.
double interference(const TestTensor& t, const PlainMatrix& tau) {
  double loss = 0;
  for (size_t m = 0; m < t.models.size(); ++m) {
    PlainMatrix own = tau, rest = tau;
    own.values = plain_delta(t, m);
    rest.values = sum_of(1, tau.values, -1, own.values);
    const PlainMatrix p = product_of_columns(transposed(rest), transposed(own));
    loss += dot(p.values, p.values) / dot(own.values, own.values);
  }
  return loss;
}

// With equations of the size of the inputs, and of the outputs.
class Wudi : public testing::TestWithParam<int64_t> {};
INSTANTIATE_TEST_SUITE_P(MatrixMethods, Wudi, testing::Values(22, 100, 3000));

TEST_P(Wudi, InterferesLess) {
  TestTensor t = random_layer({30, GetParam()}, 3, 2);
  t.task.set("ridge", 1e-9);
  const PlainMatrix found = delta_of(t, t.merge("wudi"));
  const double least = interference(t, found);
  PlainMatrix other = found;
  other.values = times(0, other.values);
  for (size_t m = 0; m < 3; ++m) other.values = sum_of(1, other.values, 1, plain_delta(t, m));
  EXPECT_LT(least, 0.9999 * interference(t, other));
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  for (int trial = 0; trial < 20; ++trial) {
    other = found;
    for (double& x : other.values) x += 0.01 * normal(random);
    EXPECT_LT(least, interference(t, other));
  }
}

// What is left of two equal models is their residual, and a fifth of its length along the head.
TEST(MatrixMethods, ResmergeOfEqualModels) {
  TestTensor t = random_layer({18, 26}, 2, 3);
  t.models[1] = t.models[0];
  PlainMatrix tau(18, 26), head = tau;
  tau.values = plain_delta(t, 0);
  const PlainSvd svd = plain_svd(tau);
  add_outer(svd.u[0], svd.v[0], 1, head);
  const Vector residual = sum_of(1, tau.values, -svd.s[0], head.values);
  const Vector expected = sum_of(1, residual, 0.2 * norm(residual), head.values);
  expect_near(delta_of(t, t.merge("resmerge")).values, expected, 1e-5);
}

TEST(MatrixMethods, TablesOfTokensAndVectorsAreAveraged) {
  for (const std::string_view method : kMethods) {
    for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"}) {
      TestTensor t = random_layer({50, 8}, 2, 4);
      t.task.name = name;
      expect_near(delta_of(t, t.merge(method)).values, times(0.5, sum_of_deltas(t)), 1e-6);
    }
    TestTensor norm_weight = random_layer({50}, 2, 4);
    expect_near(delta_of(norm_weight, norm_weight.merge(method)).values,
                times(0.5, sum_of_deltas(norm_weight)), 1e-6);
  }
}

TEST(MatrixMethods, ModelsThatAreTheBaseLeaveItBitForBit) {
  for (const std::string_view method : kMethods) {
    TestTensor t = random_layer({33, 12}, 2, 6);
    const auto models = t.models;
    t.models = {t.base, t.base};
    EXPECT_EQ(t.merge(method), t.base) << method;
    t.models = models;
    t.task.set("lambda", 0);
    EXPECT_EQ(t.merge(method), t.base) << method;
    t.task.set("lambda", 1);
    for (ModelParameters& m : t.task.models) m.set("weight", 0);
    EXPECT_EQ(t.merge(method), t.base) << method;
  }
}

TEST(MatrixMethods, ThreadsAndBlocksChangeNoBit) {
  for (const std::string_view method : kMethods) {
    const TestTensor t = random_layer({150, 140}, 3, 7);
    const auto expected = t.merge(method, 1);
    EXPECT_EQ(t.merge(method, 2), expected) << method;
    EXPECT_EQ(t.merge(method, 7), expected) << method;
    EXPECT_EQ(t.merge_in_blocks(method, 3000), expected) << method;
  }
}

TEST(MatrixMethods, AValueThatIsNotFiniteIsNamed) {
  for (const std::string_view method : kMethods) {
    TestTensor t = random_layer({9, 12}, 2, 8);
    t.models[1][17] = std::nanf("");
    try {
      t.merge(method);
      FAIL() << method;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("element 17"), std::string::npos) << e.what();
    }
  }
}

// LoRA adapters have few directions; others are not filled with noise.
TEST(MatrixMethods, DirectionsThatNoModelHasStayEmpty) {
  for (const std::string_view method : kMethods) {
    TestTensor t = random_layer({40, 30}, 2, 9);
    for (size_t i = 0; i < t.base.size(); ++i) {
      const auto row = static_cast<float>(i / 30 + 1), column = static_cast<float>(i % 30 + 1);
      t.base[i] = 0;
      t.models[0][i] = row * column;
      t.models[1][i] = std::round(64 * std::sin(row)) * column;
    }
    EXPECT_LE(plain_svd(delta_of(t, t.merge(method))).s.size(), 2u) << method;
  }
}

}  // namespace
}  // namespace lewis
