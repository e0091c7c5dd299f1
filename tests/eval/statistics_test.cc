// Standard errors, bootstrap, McNemar and Holm against scipy and statsmodels, as
// tools/record_statistics.py recorded them, and against closed forms.
#include <gtest/gtest.h>

#include <cmath>

#include "base/json.h"
#include "eval/scores/intervals.h"

namespace lewis {
namespace {

Json recorded(const char* what) {
  return read_json(LEWIS_TEST_DATA "/eval/statistics.json").at(what);
}

std::vector<ItemScore> scores(const Json& values, const Json& weights) {
  std::vector<ItemScore> result;
  for (size_t i = 0; i < values.size(); ++i)
    result.push_back({values[i], weights.is_null() ? 1.0 : weights[i].get<double>()});
  return result;
}

// The reference has 200,000 resamples, we have 10,000: a quantile's standard error is
// sqrt(q (1 - q) / N) / density, 2.7 % of the spread at 2.5 % of a normal distribution.
TEST(Statistics, PairedBootstrapIsScipys) {
  for (const Json& c : recorded("paired")) {
    SCOPED_TRACE(c["name"]);
    const auto a = scores(c["a"], c["weights"]), b = scores(c["b"], c["weights"]);
    const PairedDifference found = paired_difference(a, b);
    const double spread = c["spread"];
    if (!c["standard_error"].is_null()) {
      EXPECT_NEAR(found.standard_error, c["standard_error"], 1e-12);
    }
    EXPECT_NEAR(found.standard_error, spread, 0.03 * spread);
    EXPECT_NEAR(found.difference, mean_of(b).mean - mean_of(a).mean, 1e-12);
    const double allowed = 0.1 * spread + 1.001 * c["step"].get<double>();
    EXPECT_NEAR(found.low, c["low"], allowed);
    EXPECT_NEAR(found.high, c["high"], allowed);
    const double p = c["p"];
    EXPECT_NEAR(found.p, p, 4 * std::sqrt(2 * p / 10'000) + 2e-4);
    EXPECT_EQ(found.items, a.size());
  }
}

TEST(Statistics, McNemarIsScipysBinomialTest) {
  for (const Json& c : recorded("mcnemar")) {
    const double expected = c["p"];
    EXPECT_NEAR(mcnemar_p(c["a"], c["b"]), expected, 1e-9 * expected) << c;
  }
  EXPECT_EQ(mcnemar_p(0, 0), 1);
  EXPECT_DOUBLE_EQ(mcnemar_p(0, 6), 2.0 / 64);
  EXPECT_NEAR(mcnemar_p(1, 7), 2.0 * (1 + 8) / 256, 1e-14);
}

TEST(Statistics, HolmIsStatsmodels) {
  for (const Json& c : recorded("holm")) {
    const std::vector<double> found = holm(c["p"].get<std::vector<double>>());
    ASSERT_EQ(found.size(), c["corrected"].size());
    for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], c["corrected"][i], 1e-15);
  }
  EXPECT_TRUE(holm({}).empty());
}

// Power by its definition: with that true difference, a normal estimate passes 1.96 standard errors
// in 80 % of all cases.
TEST(Statistics, TheDetectableDifferenceHasItsPower) {
  const Json z = recorded("z");
  EXPECT_DOUBLE_EQ(detectable_difference(1), z["0.975"].get<double>() + z["0.8"].get<double>());
  const double d = detectable_difference(0.3), cut = 1.959963984540054;
  const double power = 0.5 * std::erfc((cut - d / 0.3) / std::sqrt(2.0));
  EXPECT_NEAR(power, 0.8, 1e-12);
  // Two models that agree on all but a tenth of 1,000 items: about 2.8 points.
  EXPECT_NEAR(detectable_difference(std::sqrt(0.1 / 1000)), 0.028, 1e-4);
}

}  // namespace
}  // namespace lewis
