// The reference protocol against the LEWIS authors' own program (tests/data/golden/lewis).
#include <gtest/gtest.h>

#include <cmath>

#include "base/json.h"
#include "calibrate/calibrate.h"
#include "test_model.h"

namespace lewis {
namespace {

// n(W) = || |W| sqrt(s) ||_F, entry by entry.
double norm(const Checkpoint& checkpoint, const Statistics& statistics, const std::string& module) {
  const TensorInfo& tensor = checkpoint.get(module + ".weight");
  const std::vector<float> weight = checkpoint.read_floats(tensor);
  const std::vector<double>& sums = statistics.sum_squares.at(module);
  double total = 0;
  for (size_t i = 0; i < weight.size(); ++i) {
    const double w = weight[i];
    total += w * w * (sums[i % sums.size()] / statistics.divisor());
  }
  return std::sqrt(total);
}

// "Layer_mlp.up_proj_3" -> "model.layers.3.mlp.up_proj"
std::string module_of(const std::string& golden_name) {
  const size_t last = golden_name.rfind('_');
  return "model.layers." + golden_name.substr(last + 1) + "." + golden_name.substr(6, last - 6);
}

void expect_norms(const std::string& expert, const std::string& model) {
  const std::filesystem::path golden = LEWIS_TEST_DATA "/golden/lewis/" + expert;
  const auto ids =
      read_json(golden / "calibration.json")["ids"].get<std::vector<std::vector<int32_t>>>();
  ASSERT_EQ(ids.size(), 15u);
  const TestModel running(std::filesystem::path(LEWIS_DEMO) / "models" / model);
  CalibrateOptions options;
  options.protocol = Protocol::kReference;
  const Statistics found = calibrate(running.transformer, ids, options);
  EXPECT_EQ(found.tokens, 15u * 512u);
  const Json norms = read_json(golden / "golden_f64.json")["norms"][model];
  ASSERT_EQ(norms.size(), 56u);
  double largest = 0;
  for (const auto& [name, expected] : norms.items()) {
    const double value = norm(running.checkpoint, found, module_of(name));
    largest = std::max(largest, std::abs(value / expected.get<double>() - 1));
  }
  EXPECT_LT(largest, 1e-5);
  std::printf("%s, %s: largest relative difference of a norm %.2g\n", expert.c_str(), model.c_str(),
              largest);
}

TEST(ReferenceGolden, MathBase) { expect_norms("math", "base"); }
TEST(ReferenceGolden, MathExpert) { expect_norms("math", "math"); }
TEST(ReferenceGolden, CodeBase) { expect_norms("code", "base"); }
TEST(ReferenceGolden, CodeExpert) { expect_norms("code", "code"); }

}  // namespace
}  // namespace lewis
