// Several outputs in one pass: their numbers, their bytes beside merges alone, order and resuming.
#include "recipe/outputs.h"

#include <random>

#include "small_models.h"
#include "snapshot.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

class MergeOutputs : public SmallModels {
 protected:
  MergeOutputs() {
    std::mt19937 random(7);
    std::normal_distribution<float> normal(0, 1);
    const Json config = {{"model_type", "llama"}, {"torch_dtype", "float32"}};
    for (int m = 0; m < kModels; ++m) {
      Values& values = values_.emplace_back();
      for (const auto& [name, size] : kSizes) {
        for (int i = 0; i < size; ++i) values[name].push_back(normal(random));
      }
      write(fmt::format("step-{}", m + 1), values, config, {{"wide", {3, 411}}},
            {{"half", DType::kBF16}});
    }
  }

  std::string text(const std::string& outputs, const std::string& models = "{glob: \"step-*\"}") {
    return "merge_method: linear\nmodels: " + models + "\n" + outputs;
  }
  MergeReport write_outputs(const Recipe& r, const fs::path& out, MergeOptions options = {},
                            size_t threads = 2) {
    std::vector<OutputJob> jobs;
    for (size_t i = 0; i < r.outputs.size(); ++i) {
      options.out = folder_of_output(out, r, i);
      jobs.push_back({i, options});
    }
    Threads pool(threads);
    return merge_outputs(r, jobs, pool)[0];
  }

  static constexpr int kModels = 11;
  // Longer than a chunk, shorter than a vector, and tails.
  const std::map<std::string, int> kSizes = {
      {"half", 700}, {"one", 1}, {"odd", 1037}, {"wide", 1233}};
  const std::string kOutputs =
      "outputs:\n- {name: mean, average: uniform}\n- {name: ema, average: ema, alpha: 0.3}\n- "
      "{name: "
      "lawa, average: lawa, last: 3}\n- {name: sqrt, average: sqrt_decay}\n- {name: last, average: "
      "uniform, last: 1}\n- {name: hand, weights: [1, -0.5, 0, 0, 2, 0, 0, 0, 0, 0, 3e-3]}\n";
  std::vector<Values> values_;
};

// The sums in extended precision, of weights that no part of the program touched.
TEST_F(MergeOutputs, AreWeightedMeans) {
  const Recipe r = recipe(text(kOutputs));
  write_outputs(r, dir_.path / "out");
  for (const RecipeOutput& output : r.outputs) {
    const Checkpoint model = Checkpoint::open(dir_.path / "out" / output.name);
    ASSERT_EQ(model.tensors().size(), kSizes.size());
    for (const TensorInfo& t : model.tensors()) {
      const std::vector<float> found = model.read_floats(t);
      for (size_t i = 0; i < found.size(); ++i) {
        long double sum = 0, all = 0;
        for (size_t m = 0; m < kModels; ++m) {
          float x = values_[m][t.name][i];
          if (t.dtype == DType::kBF16) x = bf16_to_float(float_to_bf16(x));
          sum += static_cast<long double>(output.weights[m]) * static_cast<long double>(x);
          all += static_cast<long double>(output.weights[m]);
        }
        auto expected = static_cast<float>(sum / all);
        if (t.dtype == DType::kBF16) expected = bf16_to_float(float_to_bf16(expected));
        EXPECT_NEAR(found[i], expected, 1e-6 * std::abs(expected) + 3e-8)
            << output.name << t.name << i;
      }
    }
  }
}

// Each output is the folder that its own recipe makes, whatever the threads and the memory, except
// for what tells of the run.
TEST_F(MergeOutputs, AreTheMergesAlone) {
  const Recipe r = recipe(text(kOutputs));
  write_outputs(r, dir_.path / "out");
  write_outputs(r, dir_.path / "single", {}, 1);
  MergeOptions small;
  small.max_memory = 1;
  try {
    write_outputs(r, dir_.path / "never", small);
    FAIL();
  } catch (const Error& e) {  // "... needs at least N bytes"
    EXPECT_EQ(e.code(), ExitCode::kResource);
    const std::string said = e.what();
    small.max_memory = std::stoull(said.substr(said.find("at least ") + 9));
  }
  EXPECT_FALSE(fs::exists(dir_.path / "never" / "mean"));
  write_outputs(r, dir_.path / "blocks", small);
  for (size_t i = 0; i < r.outputs.size(); ++i) {
    const std::string& name = r.outputs[i].name;
    const auto together = snapshot(dir_.path / "out" / name);
    EXPECT_TRUE(together.contains("README.md"));
    EXPECT_EQ(snapshot(dir_.path / "single" / name), together) << name;
    EXPECT_EQ(snapshot(dir_.path / "blocks" / name), together) << name;
    Threads threads(2);
    merge(recipe(recipe_of_output(r, i).text), {.out = dir_.path / "alone" / name}, threads);
    EXPECT_EQ(snapshot(dir_.path / "alone" / name), together) << name;
  }
}

TEST_F(MergeOutputs, DoNotDependOnTheOrderOfTheModels) {
  std::ofstream(dir_.path / "t.csv")
      << "model,a,b\nstep-1,0.1,1\nstep-2,0.7,1\nstep-3,0.013,1\n"
         "step-4,0.3,1\nstep-5,1e-7,1\nstep-10,-0.2,1\nstep-11,0.9,1\n";
  std::vector<int> order(kModels);
  std::iota(order.begin(), order.end(), 1);
  std::mt19937 random(3);
  std::map<std::string, std::string> first;
  for (int run = 0; run < 6; ++run) {
    std::string list;
    for (const int m : order) list += fmt::format("\n- model: step-{}", m);
    const fs::path out = dir_.path / fmt::format("order{}", run);
    write_outputs(recipe(text("outputs: t.csv\n", list)), out);
    std::map<std::string, std::string> weights;
    for (const char* name : {"a", "b"})
      weights[name] = sha256_hex(file_text(out / name / "model.safetensors"));
    if (run == 0) first = weights;
    EXPECT_EQ(weights, first);
    std::ranges::shuffle(order, random);
  }
}

// The first model that is not finite is named, and nothing is left of any output.
TEST_F(MergeOutputs, LeaveNothingAfterAnError) {
  Values bad = values_[4];
  bad["odd"][1030] = NAN;
  write("step-5", bad, {{"model_type", "llama"}, {"torch_dtype", "float32"}}, {{"wide", {3, 411}}},
        {{"half", DType::kBF16}});
  const auto refused = [&](const std::string& said) {
    try {
      write_outputs(recipe(text(kOutputs)), dir_.path / "out");
      FAIL() << said;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kInput) << e.what();
      EXPECT_NE(std::string(e.what()).find(said), std::string::npos) << e.what();
    }
    for (const char* name : {"mean", "ema", "mean.partial", "hand.partial"})
      EXPECT_FALSE(fs::exists(dir_.path / "out" / name)) << name;
  };
  refused("step-5: tensor odd is not finite (NaN or infinity) at element 1030");
  bad["odd"].pop_back();
  write("step-5", bad, {{"model_type", "llama"}}, {{"wide", {3, 411}}}, {{"half", DType::kBF16}});
  refused("odd");
}

TEST_F(MergeOutputs, OtherCommandsRefuseThem) {
  const Recipe r = recipe(text(kOutputs));
  Threads threads(1);
  EXPECT_THROW(merge(r, {.out = dir_.path / "out"}, threads), Error);
  EXPECT_THROW(MergeInputs inputs(r), Error);
}

// An interrupted pass goes on: what some outputs have finished is not written again.
TEST_F(MergeOutputs, GoOn) {
  const Recipe r = recipe(text(kOutputs));
  write_outputs(r, dir_.path / "whole", {.shard_bytes = 4000});
  int told = 0;
  MergeOptions options{.shard_bytes = 4000};
  options.progress = [&](const Progress&) {
    if (++told == 2) throw Error(ExitCode::kInterrupted, "stop");
  };
  EXPECT_THROW(write_outputs(r, dir_.path / "out", options), Error);
  EXPECT_TRUE(fs::exists(dir_.path / "out" / "ema.partial"));
  // One of them lost what it had, as after a kill while the writers are opened.
  fs::remove_all(dir_.path / "out" / "sqrt.partial");
  const MergeReport report =
      write_outputs(r, dir_.path / "out", {.resume = true, .shard_bytes = 4000});
  EXPECT_GT(report.resumed, 0u);
  EXPECT_EQ(snapshot(dir_.path / "out"), snapshot(dir_.path / "whole"));
}

}  // namespace
}  // namespace lewis
