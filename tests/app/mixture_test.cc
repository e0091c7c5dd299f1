// Merges of a small mixture of experts that was trained for this (tools/make_mixture.py): what
// refinement does to its routers, and what that is worth.
#include <gtest/gtest.h>

#include <lewis/lewis.h>

#include <array>
#include <fstream>

#include "base/json.h"
#include "base/text_file.h"
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

}  // namespace
}  // namespace lewis
