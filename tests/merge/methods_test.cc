// The methods against brute-force versions in double precision, and against the laws that they must
// keep.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/error.h"
#include "plain_methods.h"

namespace lewis {
namespace {

// Elements around the widths of registers, the borders of chunks and slots, and the size from which
// thresholds are bracketed by a sample.
const std::vector<size_t> kSizes = {1,    2,    7,    15,    16,    17,    63,   65,
                                    1023, 1024, 1025, 16383, 16384, 16385, 40001};
constexpr size_t kSampled = 300001;

void expect_close(const std::vector<float>& found, const Vector& expected,
                  const std::string& what) {
  for (size_t i = 0; i < found.size(); ++i) {
    const double tolerance = 1e-45 + 4e-7 * std::abs(expected[i]) + 4e-7;
    ASSERT_NEAR(found[i], expected[i], tolerance) << what << " at " << i;
  }
}

void expect_ties(size_t n, size_t models, Spread spread, double density, bool normalize = true) {
  TestTensor t(n, models);
  fill(t, spread, static_cast<uint32_t>(n + models));
  for (size_t m = 0; m < models; ++m) {
    t.task.models[m].set("weight", m == 2 ? 0.5 : 1.0);
    t.task.models[m].set("density", density);
  }
  t.task.set("normalize", normalize);
  expect_close(t.merge("ties"), plain_merge("ties", t, true),
               "n " + std::to_string(n) + " spread " + std::to_string(static_cast<int>(spread)) +
                   " density " + std::to_string(density));
}

TEST(Ties, BruteForce) {
  for (const size_t n : kSizes) {
    for (const Spread spread :
         {Spread::kNormal, Spread::kHeavyTies, Spread::kTiny, Spread::kMostlyZero}) {
      for (const double density : {0.0, 0.1, 0.5, 0.999, 1.0}) expect_ties(n, 2, spread, density);
      expect_ties(n, 3, spread, 0.4);
      expect_ties(n, 1, spread, 0.4);
      expect_ties(n, 2, spread, 0.4, false);
    }
  }
}

TEST(Ties, BruteForceWhereThresholdsAreBracketed) {
  for (const Spread spread : {Spread::kNormal, Spread::kHeavyTies, Spread::kTiny,
                              Spread::kMostlyZero, Spread::kSorted, Spread::kFewRows}) {
    for (const double density : {0.003, 0.2, 0.9}) expect_ties(kSampled, 2, spread, density);
  }
}

TEST(Ties, OrderOfModelsDoesNotMatter) {
  TestTensor t(20000, 4);
  fill(t, Spread::kHeavyTies, 5);
  for (size_t m = 0; m < 4; ++m) {
    t.task.models[m].set("weight", 0.3 + 0.2 * static_cast<double>(m));
    t.task.models[m].set("density", 0.3 + 0.1 * static_cast<double>(m));
  }
  const auto forward = t.merge("ties");
  std::reverse(t.models.begin(), t.models.end());
  std::reverse(t.task.models.begin(), t.task.models.end());
  const auto backward = t.merge("ties");
  for (size_t i = 0; i < forward.size(); ++i) {
    EXPECT_LE(std::abs(forward[i] - backward[i]),
              std::nextafter(std::abs(forward[i]), INFINITY) - std::abs(forward[i]))
        << i;
  }
}

TEST(Ties, EverySingleElementKeepsOrDrops) {
  TestTensor t(4, 1);
  t.models[0] = {3, -2, 2, 1};  // base 0: |2| ties, the lower index wins
  t.task.models[0].set("density", 0.5);
  EXPECT_EQ(t.merge("ties"), (std::vector<float>{3, -2, 0, 0}));
  t.task.models[0].set("density", 0.75);
  EXPECT_EQ(t.merge("ties"), (std::vector<float>{3, -2, 2, 0}));
}

TEST(TaskArithmetic, BruteForce) {
  for (const size_t n : kSizes) {
    for (const size_t models : {1, 2, 3, 5}) {
      for (const bool normalize : {false, true}) {
        TestTensor t(n, models);
        fill(t, Spread::kNormal, static_cast<uint32_t>(n));
        std::vector<Vector> deltas;
        for (size_t m = 0; m < models; ++m) {
          t.task.models[m].set("weight", 0.7 - 0.1 * static_cast<double>(m));
          deltas.push_back(plain_delta(t, m));
        }
        t.task.set("normalize", normalize);
        t.task.set("lambda", 0.6);
        // The weights of all models count, whatever the element.
        Vector expected(n);
        double weights = 0;
        for (const auto& m : t.task.models) weights += m["weight"];
        for (size_t i = 0; i < n; ++i) {
          double mixed = 0;
          for (size_t m = 0; m < models; ++m) mixed += t.task.models[m]["weight"] * deltas[m][i];
          expected[i] = t.base[i] + 0.6 * mixed / (normalize ? weights : 1);
        }
        expect_close(t.merge("task_arithmetic"), expected, "n " + std::to_string(n));
      }
    }
  }
}

TEST(Linear, BruteForce) {
  for (const size_t n : kSizes) {
    for (const bool normalize : {false, true}) {
      TestTensor t(n, 3);
      fill(t, Spread::kNormal, static_cast<uint32_t>(n));
      t.task.set("normalize", normalize);
      const double weights[] = {0.5, -0.25, 1.5};
      Vector expected(n);
      for (size_t m = 0; m < 3; ++m) {
        t.task.models[m].set("weight", weights[m]);
        for (size_t i = 0; i < n; ++i)
          expected[i] += weights[m] * t.models[m][i] / (normalize ? 1.75 : 1);
      }
      expect_close(t.merge("linear"), expected, "n " + std::to_string(n));
    }
  }
}

TEST(Slerp, EndsAreTheModels) {
  TestTensor t(5000, 1);
  fill(t, Spread::kNormal, 4);
  t.task.set("t", 0);
  EXPECT_EQ(t.merge("slerp"), t.base);
  t.task.set("t", 1);
  EXPECT_EQ(t.merge("slerp"), t.models[0]);
}

TEST(Linear, WeightsThatCancelAreRefused) {
  TestTensor t(4, 2);
  t.task.models[1].set("weight", -1);
  EXPECT_THROW(t.merge("linear"), Error);
  t.task.set("normalize", false);
  EXPECT_NO_THROW(t.merge("linear"));
}

std::vector<uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<uint32_t> bits;
  for (const float v : values) bits.push_back(std::bit_cast<uint32_t>(v));
  return bits;
}

class EveryMethod : public testing::TestWithParam<std::string_view> {
 protected:
  // As many models as the method takes, three if it can; the parameters that it needs.
  TestTensor tensor(size_t count, Spread spread, size_t wanted = 3) {
    const MergeMethod& method = find_merge_method(GetParam());
    TestTensor t(count, std::clamp(wanted, method.min_models, method.max_models), 9);
    t.task.set("t", 0.4);
    fill(t, spread, 1);
    return t;
  }
  const MergeMethod& method() { return find_merge_method(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Merge, EveryMethod, testing::ValuesIn(merge_method_names()),
                         [](const auto& test) { return std::string(test.param); });

TEST_P(EveryMethod, OneWholeModelComesBackBitForBit) {
  if (method().min_models > 1 || GetParam() == "slerp" || GetParam() == "nearswap" ||
      GetParam().starts_with("ram") || GetParam() == "arcee_fusion") {
    return;  // one model alone is not what they give back
  }
  TestTensor t = tensor(20000, Spread::kNormal, 1);
  for (auto& m : t.task.models) m.set("gamma", 0);
  t.models[0][7] = -0.0f;
  t.base[8] = -0.0f;
  t.models[0][8] = 0.0f;
  EXPECT_EQ(bits_of(t.merge(GetParam())), bits_of(t.models[0]));
}

TEST_P(EveryMethod, WeightZeroGivesTheBaseBitForBit) {
  if (method().base != BaseRole::kApart || !method().reads("weight")) return;
  TestTensor t = tensor(20000, Spread::kNormal);
  t.base[7] = -0.0f;
  for (auto& m : t.task.models) m.set("weight", 0);
  EXPECT_EQ(bits_of(t.merge(GetParam())), bits_of(t.base));
}

TEST_P(EveryMethod, ModelsEqualToTheBaseGiveTheBaseBitForBit) {
  if (method().base != BaseRole::kApart) return;
  TestTensor t = tensor(20000, Spread::kNormal);
  t.base[7] = -0.0f;
  t.task.set("t", GetParam() == "slerp" ? 0 : 0.5);  // between two equal vectors rounding is seen
  for (auto& m : t.models) m = t.base;
  for (auto& m : t.task.models) m.set("density", 0.5);
  EXPECT_EQ(bits_of(t.merge(GetParam())), bits_of(t.base));
}

TEST_P(EveryMethod, ThreadsDoNotChangeABit) {
  for (const Shape& shape : {Shape{200003}, Shape{401, 499}, Shape{3, 40001}, Shape{40001, 3}}) {
    TestTensor t = tensor(static_cast<size_t>(element_count(shape)), Spread::kHeavyTies);
    t.task.shape = shape;
    t.task.set("filter_wise", 1);
    t.task.set("nuslerp_flatten", 0);
    t.task.set("nuslerp_row_wise", shape[0] == 401);
    t.task.set("select_topk", 0.3);
    for (auto& m : t.task.models) m.set("density", 0.37);
    const auto one = bits_of(t.merge(GetParam(), 1));
    EXPECT_EQ(bits_of(t.merge(GetParam(), 2)), one);
    EXPECT_EQ(bits_of(t.merge(GetParam(), 7)), one);
  }
}

TEST_P(EveryMethod, NotFiniteIsRefusedByName) {
  for (const float bad : {NAN, INFINITY}) {
    TestTensor t = tensor(20000, Spread::kNormal);
    t.models.back()[12345] = bad;
    for (auto& m : t.task.models) m.set("density", 0.5);
    try {
      t.merge(GetParam());
      ADD_FAILURE();
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(
                    "up_proj.weight is not finite (NaN or infinity) at element 12345"),
                std::string::npos)
          << e.what();
    }
  }
}

TEST_P(EveryMethod, OddShapesAndValuesDoNotFail) {
  for (const Shape& shape : {Shape{}, Shape{1}, Shape{0}, Shape{0, 4}, Shape{1, 1}, Shape{1, 17},
                             Shape{17, 1}, Shape{3, 2, 5}, Shape{2, 1025}}) {
    for (const Spread spread : {Spread::kHeavyTies, Spread::kTiny, Spread::kMostlyZero}) {
      TestTensor t = tensor(static_cast<size_t>(element_count(shape)), spread);
      t.task.shape = shape;
      t.task.set("filter_wise", 1);
      t.task.set("nuslerp_flatten", 0);
      for (auto& m : t.task.models) m.set("density", 0.5);
      const auto found = t.merge(GetParam());
      EXPECT_TRUE(all_finite(found)) << to_string(shape);
    }
  }
}

// Random masks: as many entries as the density asks for, within 4 standard errors; the sum of
// magnitudes is that of the whole task vector; the seed decides.
TEST(Dare, DensitySumAndSeed) {
  const size_t n = 300000;
  for (const double density : {0.05, 0.5, 0.9}) {
    TestTensor t(n, 1, 4);
    fill(t, Spread::kNormal, 2);
    std::fill(t.base.begin(), t.base.end(), 0.0f);
    t.task.models[0].set("density", density);
    const auto merged = t.merge("dare_linear");
    double before = 0, after = 0, kept = 0, factor = 0;
    for (size_t i = 0; i < n; ++i) {
      before += std::abs(t.models[0][i]);
      after += std::abs(merged[i]);
      if (merged[i] == 0) continue;
      kept += 1;
      factor = merged[i] / t.models[0][i];
    }
    EXPECT_NEAR(kept, density * static_cast<double>(n),
                4 * std::sqrt(density * (1 - density) * static_cast<double>(n)));
    EXPECT_NEAR(after / before, 1, 1e-6);
    EXPECT_NEAR(factor * density, 1, 0.05);
    EXPECT_EQ(merged, t.merge("dare_linear"));
    t.task.models[0].random = TensorRandom(5, 0, t.task.name);
    EXPECT_NE(merged, t.merge("dare_linear"));
    t.task.set("rescale", false);
    for (size_t i = 0; const float m : t.merge("dare_ties")) {
      EXPECT_TRUE(m == 0 || m == t.models[0][i]);
      ++i;
    }
  }
}

// Given its masks (seen through rescale: false), dare_ties is the sign election of the rest.
TEST(Dare, TiesIsTheElectionOfWhatIsKept) {
  TestTensor t(5000, 2, 4);
  fill(t, Spread::kNormal, 2);
  t.task.set("rescale", false);
  for (auto& m : t.task.models) m.set("density", 0.6);
  std::vector<Vector> kept;
  for (size_t m = 0; m < 2; ++m) {
    TestTensor alone = t;
    alone.task.models[1 - m].set("weight", 0);
    const auto merged = alone.merge("dare_linear");
    Vector d = plain_delta(t, m);
    for (size_t i = 0; i < d.size(); ++i) d[i] = merged[i] == t.base[i] ? 0 : d[i];
    kept.push_back(d);
  }
  expect_close(t.merge("dare_ties"), plain_combine(t, kept, {1, 1}, true, false), "dare_ties");
}

TEST(Formats, HalfTypesInAndOut) {
  TestTensor t(5000, 1);
  fill(t, Spread::kNormal, 3);
  Threads threads(2);
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    std::vector<std::byte> base(2 * 5000), model(2 * 5000), out(2 * 5000);
    narrow(t.base, dtype, base.data());
    narrow(t.models[0], dtype, model.data());
    t.task.models[0].set("weight", 0.5);
    const StoredTensor base_input{dtype, base, "base"};
    const StoredTensor inputs[] = {{dtype, model, "model"}};
    merge_tensor(find_merge_method("task_arithmetic"),
                 t.task_of(find_merge_method("task_arithmetic")), &base_input, inputs, dtype, out,
                 threads);
    std::vector<float> b(5000), m(5000);
    widen(dtype, base.data(), b);
    widen(dtype, model.data(), m);
    for (size_t i = 0; i < 5000; ++i) {
      const float expected[] = {b[i] + 0.5f * (m[i] - b[i])};
      std::byte rounded[2];
      narrow(expected, dtype, rounded);
      ASSERT_EQ(std::memcmp(rounded, out.data() + 2 * i, 2), 0) << i;
    }
  }
}

TEST(Formats, TooLargeForTheOutputIsRefused) {
  TestTensor t(10, 1);
  t.models[0][3] = 70000;
  std::vector<std::byte> out(20);
  Threads threads(1);
  const StoredTensor base = t.stored(t.base);
  const StoredTensor inputs[] = {t.stored(t.models[0])};
  EXPECT_THROW(merge_tensor(find_merge_method("ties"), t.task_of(find_merge_method("ties")), &base,
                            inputs, DType::kF16, out, threads),
               Error);
  EXPECT_NO_THROW(merge_tensor(find_merge_method("ties"), t.task_of(find_merge_method("ties")),
                               &base, inputs, DType::kBF16, out, threads));
}

TEST(Methods, UnknownNamesGetTheNearest) {
  try {
    find_merge_method("tie");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("'ties'"), std::string::npos);
  }
}

}  // namespace
}  // namespace lewis
