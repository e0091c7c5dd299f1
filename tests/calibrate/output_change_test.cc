#include "calibrate/output_change.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/json.h"
#include "golden_file.h"
#include "temp_dir.h"
#include "test_model.h"

namespace lewis {
namespace {

using Sequences = std::vector<std::vector<int32_t>>;
const std::filesystem::path kDemo = LEWIS_DEMO "/models";

Json golden() { return read_json(LEWIS_TEST_DATA "/golden/output_changes.json"); }

Statistics changes(const std::string& expert, const Sequences& ids, size_t threads = 2,
                   const CalibrateOptions& options = {}) {
  const TestModel b(kDemo / "base", threads), e(kDemo / expert, threads);
  return output_changes(b.transformer, e.transformer, *e.backend, ids, options);
}

// transformers in float64 (golden/make_output_changes.py).
TEST(OutputChange, AsTransformers) {
  const Json expected = golden();
  const Statistics found = changes("math", expected["ids"].get<Sequences>());
  EXPECT_EQ(found.output_changes.size(), 56u);
  for (const auto& [name, layer] : expected["layers"].items()) {
    const OutputChange& c = found.output_changes.at(name);
    EXPECT_NEAR(c.changed / layer["changed"].get<double>(), 1, 1e-4) << name;
    EXPECT_NEAR(c.base / layer["base"].get<double>(), 1, 1e-5) << name;
    EXPECT_EQ(c.tokens, 99);
  }
}

TEST(Magnitudes, AsTransformers) {
  const Json expected = golden();
  const TestModel base(kDemo / "base");
  const Statistics found =
      calibrate(base.transformer, expected["ids"].get<Sequences>(), {.magnitudes = true});
  for (const auto& [name, layer] : expected["layers"].items()) {
    const std::vector<double>& sums = found.sum_magnitudes.at(name);
    double all = 0;
    for (const double s : sums) all += s;
    EXPECT_NEAR(sums[0] / layer["magnitude_0"].get<double>(), 1, 1e-5) << name;
    EXPECT_NEAR(all / layer["magnitudes"].get<double>(), 1, 1e-5) << name;
  }
}

TEST(OutputChange, NothingChangesFromAModelToItself) {
  for (const auto& [name, c] : changes("base", {{1, 2, 3}, {4, 5}}).output_changes) {
    EXPECT_EQ(c.changed, 0) << name;
    EXPECT_GT(c.base, 0) << name;
  }
}

// Every token goes to as many experts as the model chooses.
TEST(OutputChange, RoutedExperts) {
  for (const char* family : {"mixtral", "qwen3_moe"}) {
    const TestModel model(std::filesystem::path(LEWIS_TEST_DATA "/golden/families") / family);
    const Sequences ids = {{1, 2, 3, 4, 5, 6, 7}, {8, 9, 10}};
    const auto found =
        output_changes(model.transformer, model.transformer, *model.backend, ids, {});
    const ModelSpec& spec = model.transformer.spec();
    std::map<std::string, int64_t> routed;
    for (int64_t layer = 0; layer < spec.layers; ++layer) {
      for (const LinearLayer& linear : linear_layers(spec, layer)) {
        if (linear.role == LinearRole::kRouter) continue;
        const OutputChange& c = found.output_changes.at(linear.name);
        EXPECT_EQ(c.changed, 0) << linear.name;
        if (linear.expert >= 0 && linear.role == LinearRole::kDown)
          routed[linear.module] += c.tokens;
      }
    }
    EXPECT_FALSE(routed.empty());
    for (const auto& [module, tokens] : routed) EXPECT_EQ(tokens, 10 * spec.experts.chosen);
  }
}

TEST(OutputChange, NeitherThreadsNorGroupsChangeABit) {
  const Sequences ids = golden()["ids"].get<Sequences>();
  const auto one = changes("code", ids, 1).output_changes;
  EXPECT_EQ(one, changes("code", ids, 3).output_changes);
  CalibrateOptions small;
  small.rows_per_group = 30;
  const auto grouped = changes("code", ids, 2, small).output_changes;
  for (const auto& [name, c] : one) EXPECT_NEAR(grouped.at(name).changed / c.changed, 1, 1e-9);
}

TEST(OutputChange, ThroughAFile) {
  const TempDir dir;
  Statistics s = changes("math", {{1, 2, 3}});
  s.sum_magnitudes["a"] = {1, 0.5};
  write_statistics(dir.path / "s.safetensors", s);
  const Statistics read = read_statistics(dir.path / "s.safetensors");
  EXPECT_EQ(read.output_changes, s.output_changes);
  EXPECT_EQ(read.sum_magnitudes, s.sum_magnitudes);
}

TEST(OutputChange, RefusesOtherShapesProtocolsAndLittleMemory) {
  EXPECT_THROW(changes("math", {}), Error);
  CalibrateOptions reference;
  reference.protocol = Protocol::kReference;
  EXPECT_THROW(changes("math", {{1, 2}}, 2, reference), Error);
  CalibrateOptions little;
  little.max_memory = 1'000'000;
  EXPECT_THROW(changes("math", {{1, 2}}, 2, little), Error);
  const TestModel b(kDemo / "base"), e(LEWIS_TEST_DATA "/golden/families/llama");
  EXPECT_THROW(output_changes(b.transformer, e.transformer, *b.backend, Sequences{{1, 2}}, {}),
               Error);
}

}  // namespace
}  // namespace lewis
