// Merges of a small mixture of experts that was trained for this (tools/make_mixture.py): what
// refinement does to its routers, and what that is worth.
#include <gtest/gtest.h>

#include <lewis/lewis.h>

#include <fstream>

#include "base/json.h"
#include "base/whole_file.h"
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

// The mean answer loss over the three tasks.
std::vector<double> mean_losses(const std::vector<fs::path>& models) {
  EvaluateJob job;
  job.models = models;
  for (const char* skill : kSkills)
    job.tasks.push_back("loss:" + (kMixture / (std::string(skill) + "_test.jsonl")).string() +
                        ":gsm8k");
  std::map<std::string, double> sums;
  std::vector<double> losses(models.size());
  const EvaluateResult result = evaluate(job, {.threads = 2});
  size_t at = 0;
  for (const TaskScore& score : result.scores) losses[at++ / kSkills.size()] += score.value / 3;
  return losses;
}

}  // namespace
}  // namespace lewis
