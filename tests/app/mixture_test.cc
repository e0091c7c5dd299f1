// Merges of a small mixture of experts that was trained for this (tools/make_mixture.py): what
// refinement does to its routers, and what that is worth.
#include <gtest/gtest.h>

#include <lewis/lewis.h>

#include <array>
#include <fstream>

#include "base/json.h"
#include "base/text_file.h"
#include "io/checkpoint.h"
#include "io/expert_tensors.h"
#include "io/layer_name.h"
#include "io/safetensors.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

const fs::path kMixture = fs::path(LEWIS_TEST_DATA) / "mixture";
constexpr std::array<const char*, 3> kSkills = {"math", "code", "words"};

// A recipe of all three, with what stands under lewis.refine, or without where that is empty.
fs::path write_recipe(const fs::path& file, const std::string& method, const std::string& scale,
                      const std::string& refine) {
  std::ofstream out(file);
  out << "merge_method: " << method << "\nbase_model: " << (kMixture / "base").string()
      << "\nmodels:\n";
  for (const char* skill : kSkills) {
    out << "- {model: " << (kMixture / skill).string() << ", parameters: {weight: " << scale
        << (method == "ties" ? ", density: 0.5" : "") << "}}\n";
  }
  out << "dtype: float32\n";
  if (refine.empty()) return file;
  out << "lewis:\n  calibration:\n";
  for (const char* skill : kSkills) {
    out << "  - {model: " << (kMixture / skill).string()
        << ", data: " << (kMixture / (std::string(skill) + "_train.jsonl")).string()
        << ", format: gsm8k}\n";
  }
  out << "  refine: " << refine << "\n";
  return file;
}

// The mean answer loss over the three tasks, model by model.
std::vector<double> mean_losses(const std::vector<fs::path>& models, const fs::path& cache) {
  EvaluateJob job;
  job.models = models;
  job.guidance.cache = cache;
  for (const char* skill : kSkills)
    job.tasks.push_back("loss:" + (kMixture / (std::string(skill) + "_test.jsonl")).string() +
                        ":gsm8k");
  std::vector<double> losses(models.size());
  const EvaluateResult result = evaluate(job, {.threads = 2});
  EXPECT_EQ(result.scores.size(), models.size() * kSkills.size());
  for (size_t i = 0; i < result.scores.size(); ++i)
    losses.at(i / kSkills.size()) += result.scores[i].value / 3;
  return losses;
}

// The share of the experts' choices that a merge's routers make, over all blocks and experts.
struct Agreement {
  double before = 0, after = 0;
};
Agreement agreement_of(const fs::path& out) {
  const Json record = parse_json(read_text_file(out / "lewis_run.json"), "record");
  Agreement mean;
  double count = 0;
  for (const Json& block : record.at("refinement").at(0).at("blocks")) {
    for (const Json& choices : block.at("routers")) {
      mean.before += choices.at("before").get<double>();
      mean.after += choices.at("after").get<double>();
      ++count;
    }
  }
  EXPECT_EQ(count, 4 * 3) << "blocks and experts";
  return {mean.before / count, mean.after / count};
}

// Solved routers choose as the experts' routers do, and no other merge is as good.
TEST(Mixture, RoutersAreRefined) {
  const TempDir dir;
  const auto recipe = [&](const std::string& name, const std::string& method,
                          const std::string& scale, const std::string& refine) {
    return write_recipe(dir.path / (name + ".yml"), method, scale, refine);
  };
  const fs::path refined = recipe("refined", "task_arithmetic", "1.0", "{}");
  const MergeJob job{.recipe = open_recipe(refined), .out = dir.path / "refined"};
  merge(job, {.threads = 2});
  const Agreement agreement = agreement_of(job.out);
  EXPECT_LT(agreement.before, 0.89);
  EXPECT_GT(agreement.after, 0.9);

  const std::vector<double> losses = mean_losses(
      {job.out, recipe("kept", "task_arithmetic", "1.0", "{routers: false}"),
       recipe("regmean", "task_arithmetic", "1.0", "{method: regmean}"),
       recipe("half", "task_arithmetic", "0.5", ""), recipe("whole", "task_arithmetic", "1.0", ""),
       recipe("ties", "ties", "1.0", ""), kMixture / "math", kMixture / "code", kMixture / "words"},
      dir.path / "cache");
  for (size_t i = 1; i < losses.size(); ++i) EXPECT_LT(losses[0], 0.9 * losses[i]) << i;
}

// The same model with its experts in another order, a different one in each layer: expert e of the
// copy is number (e * 3 + layer) modulo 8 of the model.
void write_permuted(const fs::path& model, const fs::path& to) {
  fs::copy(model, to);
  const Checkpoint from = Checkpoint::open(model);
  std::vector<TensorInfo> infos;
  std::map<std::string, std::vector<std::byte>> bytes;
  for (const TensorInfo& t : from.tensors()) {
    TensorInfo named = t;
    std::vector<std::byte> values(byte_size(t));
    from.read(t, 0, values);
    const auto layer = static_cast<size_t>(tensor_layer(t.name).value_or(0));
    const auto expert = split_expert_name(t.name);
    const bool router = t.name.ends_with("mlp.gate.weight");
    for (size_t e = 0; e < 8; ++e) {
      const size_t number = (e * 3 + layer) % 8, row = values.size() / 8;
      if (expert && static_cast<size_t>(expert->expert) == number)
        named.name = fmt::format("{}experts.{}.{}.weight", expert->place, e, expert->linear);
      if (!router) continue;
      const auto begin = values.begin() + static_cast<std::ptrdiff_t>(number * row);
      auto& rows = bytes[t.name];
      rows.insert(rows.end(), begin, begin + static_cast<std::ptrdiff_t>(row));
    }
    infos.push_back(named);
    if (!router) bytes[named.name] = std::move(values);
  }
  std::ranges::sort(infos, {}, &TensorInfo::name);
  std::vector<std::span<const std::byte>> data;
  for (const TensorInfo& t : infos) data.emplace_back(bytes.at(t.name));
  write_safetensors(to / "model.safetensors", infos, data, {{"format", "pt"}});
}

// A refined merge of math and of what stands in for code.
fs::path write_refined(const TempDir& dir, const std::string& name, const fs::path& code,
                       const std::string& more) {
  const fs::path recipe = dir.path / (name + ".yml");
  std::ofstream(recipe) << fmt::format(
      "merge_method: ties\nbase_model: {0}/base\nparameters: {{weight: 1}}\nmodels:\n"
      "- model: {0}/math\n- model: {1}\ndtype: bfloat16\n{2}lewis:\n  calibration:\n"
      "  - {{model: {0}/math, data: {0}/math_train.jsonl, format: gsm8k}}\n"
      "  - {{model: {1}, data: {0}/code_train.jsonl, format: gsm8k}}\n"
      "  refine: {{samples: 4}}\n",
      kMixture.string(), code.string(), more);
  return recipe;
}

// What calibrates, plans, merges and refines sees the experts of all models in one order:
// fine-tunes whose experts were permuted end, byte for byte, as those that they were made of.
TEST(Mixture, PermutedExpertsAreMergedAsTheOthers) {
  const TempDir dir;
  const auto merged = [&](const std::string& name, const fs::path& code, const std::string& more) {
    MergeJob job{.recipe = open_recipe(write_refined(dir, name, code, more)),
                 .out = dir.path / name};
    job.guidance.cache = dir.path / "cache";
    merge(job, {.threads = 2});
    return read_text_file(job.out / "model.safetensors");
  };
  const fs::path permuted = dir.path / "permuted";
  write_permuted(kMixture / "code", permuted);
  const std::string expected = merged("plain", kMixture / "code", "");
  EXPECT_EQ(merged("aligned", permuted, ""), expected);
  EXPECT_NE(merged("kept", permuted, "expert_order: keep\n"), expected);
  const auto says = [&](const std::string& name) {
    return read_text_file(dir.path / name / "lewis_run.json")
               .find("experts of 4 layers stand in another order than in ") != std::string::npos;
  };
  EXPECT_TRUE(says("aligned"));
  EXPECT_FALSE(says("plain"));
  EXPECT_FALSE(says("kept"));
}

// Statistics of a file are by the model's own order.
TEST(Mixture, StatisticsOfPermutedExpertsAreRefused) {
  const TempDir dir;
  const fs::path permuted = dir.path / "permuted", recipe = dir.path / "r.yml";
  write_permuted(kMixture / "code", permuted);
  for (const fs::path& model : {kMixture / "base", permuted}) {
    CalibrateJob job{.model = model, .data = kMixture / "code_train.jsonl"};
    job.format = "gsm8k";
    job.samples = 2;
    job.out = dir.path / (model.filename().string() + ".json");
    calibrate(job, {.threads = 2});
  }
  std::ofstream(recipe) << fmt::format(
      "merge_method: ties\nbase_model: {0}/base\nparameters: {{weight: 1}}\nmodels:\n"
      "- model: {1}/permuted\nlewis:\n  calibration:\n"
      "  - model: {1}/permuted\n    statistics: {{base: {1}/base.json, model: "
      "{1}/permuted.json}}\n",
      kMixture.string(), dir.path.string());
  try {
    plan({.recipe = open_recipe(recipe)}, {.threads = 2});
    ADD_FAILURE() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kUsage);
    EXPECT_NE(std::string(e.what()).find("are by its own order of experts"), std::string::npos)
        << e.what();
  }
}

}  // namespace
}  // namespace lewis
