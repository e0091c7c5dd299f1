// The verbs as a program calls them that links lewis.
#include <gtest/gtest.h>

#include <lewis/lewis.h>

#include "base/json.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

const fs::path kModels = fs::path(LEWIS_DEMO) / "models";

std::string ties(const std::string& base, const std::string& math, const std::string& code) {
  return "merge_method: ties\nbase_model: " + base + "\nmodels:\n- {model: " + math +
         ", parameters: {weight: 0.7, density: 0.5}}\n- {model: " + code +
         ", parameters: {weight: 0.6, density: 0.4}}\ndtype: bfloat16\n";
}

RecipePtr recipe_of_folders() {
  return make_recipe(
      ties((kModels / "base").string(), (kModels / "math").string(), (kModels / "code").string()));
}

// The tensors of a model, in memory.
struct LoadedModel {
  explicit LoadedModel(const fs::path& folder) : checkpoint(open_checkpoint(folder)) {
    for (const TensorInfo& t : checkpoint->tensors()) {
      bytes.emplace_back(byte_size(t));
      checkpoint->read(t, 0, bytes.back());
    }
  }
  std::shared_ptr<const TensorSource> source() const {
    std::vector<MemoryTensor> tensors;
    for (size_t i = 0; i < bytes.size(); ++i)
      tensors.push_back({checkpoint->tensors()[i], bytes[i]});
    return memory_source("memory", std::move(tensors));
  }
  std::shared_ptr<const TensorSource> checkpoint;
  std::vector<std::vector<std::byte>> bytes;
};

template <typename F>
ExitCode code_of(const F& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    return e.code();
  }
  return ExitCode::kDone;
}

TEST(Facade, MergingMemoryGivesTheBytesOfMergingFolders) {
  const TempDir dir;
  const MergeResult result = merge({.recipe = recipe_of_folders(), .out = dir.path / "out"});
  const auto merged = open_checkpoint(dir.path / "out");
  EXPECT_EQ(result.tensors.merged + result.tensors.copied, merged->tensors().size());
  EXPECT_EQ(parse_json(json_text(result), "result")["merged"], result.tensors.merged);

  const LoadedModel base(kModels / "base"), math(kModels / "math"), code(kModels / "code");
  TensorMergeJob job;
  job.recipe = make_recipe(ties("b", "m", "c"), "", {"b", "m", "c"});
  job.models = {{"b", base.source()}, {"m", math.source()}, {"c", code.source()}};
  size_t seen = 0;
  merge_tensors(job, [&](const TensorInfo& info, std::span<const std::byte> bytes) {
    ASSERT_LT(seen, merged->tensors().size());
    const TensorInfo& expected = merged->tensors()[seen++];
    ASSERT_EQ(info, expected);
    std::vector<std::byte> there(byte_size(info));
    merged->read(expected, 0, there);
    EXPECT_TRUE(std::ranges::equal(bytes, there)) << info.name;
  });
  EXPECT_EQ(seen, merged->tensors().size());
}

TEST(Facade, TheCallersFlagEndsTheWork) {
  const TempDir dir;
  std::atomic<bool> interrupted = false;
  size_t calls = 0;
  const RunContext run{.threads = 1,
                       .progress =
                           [&](const Progress& p) {
                             EXPECT_LE(p.done, p.total);
                             ++calls;
                             interrupted = true;
                           },
                       .interrupted = &interrupted};
  const MergeJob job{.recipe = recipe_of_folders(), .out = dir.path / "out"};
  EXPECT_EQ(code_of([&] { merge(job, run); }), ExitCode::kInterrupted);
  EXPECT_EQ(calls, 1u);
  EXPECT_FALSE(fs::exists(job.out));
}

TEST(Facade, PlansWithoutCalibrationAreTheRecipe) {
  const PlanResult result = plan({.recipe = recipe_of_folders()});
  EXPECT_TRUE(result.models.empty());
  EXPECT_GT(result.cost.parameters, 0u);
  EXPECT_EQ(result.yaml, mergekit_yaml(*result.planned));
  EXPECT_EQ(model_names(*result.recipe).size(), 3u);
}

TEST(Facade, RefusesWhatCannotBe) {
  EXPECT_EQ(code_of([] { merge(MergeJob{}); }), ExitCode::kUsage);
  EXPECT_EQ(code_of([] { make_recipe("merge_method: ties\n"); }), ExitCode::kUsage);
  EXPECT_EQ(code_of([] { open_checkpoint("no/such/folder"); }), ExitCode::kInput);
  EXPECT_EQ(code_of([] { evaluate({}); }), ExitCode::kUsage);
  const std::vector<std::byte> two(2);
  const auto source = [&](const Shape& shape) {
    return memory_source("memory", {{{"x", DType::kF32, shape}, two}});
  };
  EXPECT_EQ(code_of([&] { source({1}); }), ExitCode::kUsage) << "2 bytes are no float";
  EXPECT_EQ(code_of([&] { source({-1}); }), ExitCode::kUsage);
  EXPECT_EQ(code_of([&] { source({int64_t{1} << 40, int64_t{1} << 40}); }), ExitCode::kUsage);
  TensorMergeJob job;
  job.recipe = make_recipe(ties("b", "m", "c") + "tokenizer_source: union\n", "", {"b", "m", "c"});
  EXPECT_EQ(code_of([&] { merge_tensors(job, {}); }), ExitCode::kUsage);
  job.recipe = make_recipe(ties("b", "m", "c"), "", {"b", "m", "c"});
  try {
    merge_tensors(job, {});
    ADD_FAILURE() << "merges without tensors";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kUsage);
    EXPECT_NE(std::string_view(e.what()).find("its tensors are not given"), std::string::npos)
        << e.what();
  }
}

TEST(Facade, TwoTensorsOfOneNameAreRefused) {
  const std::vector<std::byte> four(4);
  const MemoryTensor t{{"x", DType::kF32, {1}}, four};
  EXPECT_EQ(code_of([&] { memory_source("memory", {t, t}); }), ExitCode::kUsage);
  EXPECT_EQ(memory_source("memory", {t})->read_floats(t.info), std::vector<float>{0});
}

}  // namespace
}  // namespace lewis
