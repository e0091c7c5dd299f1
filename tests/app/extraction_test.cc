// The verb extract on the demo's models: an adapter out of a model, and adapters into one.
#include <gtest/gtest.h>

#include <lewis/adapters.h>

#include <cmath>
#include <fstream>
#include <functional>

#include "base/error.h"
#include "calibrate/statistics.h"
#include "snapshot.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

const fs::path kDemoModels = fs::path(LEWIS_DEMO) / "models";

ExtractJob job_of(const fs::path& model, const fs::path& out, int64_t rank) {
  ExtractJob job;
  job.base = kDemoModels / "base";
  job.model = model;
  job.out = out;
  job.rank = rank;
  job.uniform_ranks = true;
  job.text.guidance.cache = out.parent_path() / "cache";
  return job;
}

fs::path write_recipe_of(const fs::path& file, const std::string& method,
                         const std::vector<std::string>& models) {
  std::ofstream out(file);
  out << "merge_method: " << method << "\n";
  if (method != "passthrough") out << "base_model: " << (kDemoModels / "base").string() << "\n";
  out << "models:\n";
  for (const std::string& model : models)
    out << "- {model: " << (kDemoModels / "base").string() << "+" << model
        << (method == "passthrough" ? "}\n" : ", parameters: {weight: 0.6, density: 0.5}}\n");
  out << "dtype: float32\n";
  return file;
}

double worst_of_merges(const fs::path& a, const fs::path& b, const TempDir& dir) {
  merge({.recipe = open_recipe(a), .out = dir.path / "a"}, {.threads = 2});
  merge({.recipe = open_recipe(b), .out = dir.path / "b"}, {.threads = 2});
  const auto x = open_checkpoint(dir.path / "a"), y = open_checkpoint(dir.path / "b");
  EXPECT_EQ(x->tensors(), y->tensors());
  double worst = 0;
  for (const TensorInfo& t : x->tensors()) {
    const auto one = x->read_floats(t), other = y->read_floats(t);
    for (size_t i = 0; i < one.size(); ++i)
      worst = std::max(worst, std::abs(static_cast<double>(one[i]) - other[i]));
  }
  fs::remove_all(dir.path / "a");
  fs::remove_all(dir.path / "b");
  return worst;
}

// The sum of two adapters of rank 3 and 4 has rank 7, and is found whole; with less, the adapter
// says what it misses. A method that keeps single entries has no such rank.
TEST(ExtractVerb, AdaptersBecomeOne) {
  const TempDir dir;
  const std::string math = (dir.path / "math").string(), code = (dir.path / "code").string();
  extract(job_of(kDemoModels / "math", math, 3), {.threads = 2});
  extract(job_of(kDemoModels / "code", code, 4), {.threads = 2});
  const fs::path sum = write_recipe_of(dir.path / "sum.yml", "task_arithmetic", {math, code});
  const fs::path one = dir.path / "one";
  EXPECT_LT(extract(job_of(sum, one, 7), {.threads = 2}).error, 1e-5);
  const fs::path applied = write_recipe_of(dir.path / "one.yml", "passthrough", {one.string()});
  EXPECT_LT(worst_of_merges(sum, applied, dir), 1e-5);
  EXPECT_GT(extract(job_of(sum, dir.path / "less", 5), {.threads = 2}).error, 0.02);
  const fs::path ties = write_recipe_of(dir.path / "ties.yml", "ties", {math, code});
  EXPECT_GT(extract(job_of(ties, dir.path / "ties", 7), {.threads = 2}).error, 0.02);
}

// Weighed by a text, the error that counts is that of outputs: it is less where it matters.
TEST(ExtractVerb, TextWeighsTheInputs) {
  const TempDir dir;
  ExtractJob job = job_of(kDemoModels / "math", dir.path / "weighted", 4);
  job.text.data = fs::path(LEWIS_DEMO) / "data/math_train.jsonl";
  job.text.format = "gsm8k";
  job.text.samples = 10;
  const ExtractResult weighted = extract(job, {.threads = 2});
  const ExtractResult plain =
      extract(job_of(kDemoModels / "math", dir.path / "plain", 4), {.threads = 2});
  EXPECT_LT(weighted.error, plain.error);
  for (const ExtractedModule& layer : weighted.layers) EXPECT_TRUE(layer.weighted) << layer.module;
}

// Layers that the statistics do not know are told.
TEST(ExtractVerb, WhatTheTextDoesNotSayIsNoted) {
  const TempDir dir;
  Statistics some;
  some.sum_squares["model.layers.0.self_attn.q_proj"] = std::vector<double>(128, 2.0);
  some.tokens = some.sequences = 1;
  write_statistics(dir.path / "some.safetensors", some);
  ExtractJob job = job_of(kDemoModels / "math", dir.path / "out", 2);
  job.statistics = dir.path / "some.safetensors";
  std::string notes;
  RunContext run;
  run.threads = 2;
  run.notice = [&](const Notice& notice) { notes += notice.text + "\n"; };
  extract(job, run);
  EXPECT_NE(notes.find("the text says nothing of model.layers.0.mlp.down_proj"), std::string::npos)
      << notes;
  EXPECT_NE(notes.find("and 52 more"), std::string::npos) << notes;
}

TEST(ExtractVerb, WhatDoesNotFitIsRefusedBeforeTheWork) {
  const TempDir dir;
  const auto before = snapshot(dir.path);
  const auto refused = [&](const std::function<void(ExtractJob&)>& change, ExitCode code,
                           const char* words) {
    ExtractJob job = job_of(kDemoModels / "math", dir.path / "out", 4);
    job.text.guidance.cache.clear();
    change(job);
    try {
      extract(job, {.threads = 2});
      ADD_FAILURE() << "not refused: " << words;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), code) << e.what();
      EXPECT_NE(std::string(e.what()).find(words), std::string::npos) << e.what();
    }
    EXPECT_EQ(snapshot(dir.path), before);
  };
  refused([](ExtractJob& j) { j.error = 0.1; }, ExitCode::kUsage, "--rank");
  refused([](ExtractJob& j) { j.error = -0.1; }, ExitCode::kUsage, "--error -0.1");
  refused([](ExtractJob& j) { j.rank = 0; }, ExitCode::kUsage, "--error");
  refused([](ExtractJob& j) { j.rank = 1'000'000'000; }, ExitCode::kUsage, "65536");
  refused([](ExtractJob& j) { j.model = j.base; }, ExitCode::kInput, "the same weights");
  refused([](ExtractJob& j) { j.model = "nowhere"; }, ExitCode::kInput, "nowhere");
  refused([](ExtractJob& j) { j.statistics = "nothing.safetensors"; }, ExitCode::kInput, "nothing");
  refused([&](ExtractJob& j) { j.out = kDemoModels / "code"; }, ExitCode::kUsage, "exists");
}

}  // namespace
}  // namespace lewis
