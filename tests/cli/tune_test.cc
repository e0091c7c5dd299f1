// lewis tune, as its user runs it.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "demo_recipe.h"
#include "run_lewis.h"
#include "temp_dir.h"

namespace lewis {
namespace {

struct Tuned {
  // `data` of the math expert; `lambda` and more of the merge's parameters.
  explicit Tuned(const std::string& lambda = "{search: [0.3, 2], start: 0.5}",
                 const std::string& data = "math_train.jsonl") {
    write_demo_recipe(recipe, lambda, data);
  }
  Run run(const std::string& more = "") const {
    return run_lewis(dir.path, "tune " + recipe.string() + " -o " + out.string() +
                                   " --evaluations 6 --samples 24 --json " + more);
  }
  TempDir dir;
  std::filesystem::path recipe = dir.path / "r.yml", out = dir.path / "tuned.yml";
};

TEST(Tune, FindsABetterScaleAndWritesARecipe) {
  const Tuned tuned;
  const auto run = tuned.run();
  ASSERT_EQ(run.code, 0) << run.err;
  const Json json = parse_json(run.out, "output");
  EXPECT_LT(json["objective"]["found"].get<double>(), json["objective"]["start"].get<double>());
  EXPECT_LE(json["evaluations"].get<int>(), 6);
  EXPECT_EQ(json["taken_over"].get<int>(), 0) << "nothing was known before the first run";
  const double lambda = json["values"]["parameters.lambda"].get<double>();
  const auto check = run_lewis(tuned.dir.path, "check " + tuned.out.string());
  EXPECT_EQ(check.code, 0) << check.err;
  EXPECT_NE(file_text(tuned.out).find(fmt::format("lambda: {}\n", lambda)), std::string::npos);
}

// Refinement that takes all items leaves none that could judge the search.
TEST(Tune, DoesNotJudgeOnWhatRefinementFitsTo) {
  const Tuned tuned;
  std::ofstream(tuned.recipe, std::ios::app) << "  refine: {samples: 0}\n";
  const auto run = tuned.run();
  EXPECT_EQ(run.code, 2);
  EXPECT_NE(run.err.find("lewis.refine"), std::string::npos) << run.err;
}

// Nor does the search judge on what a module is made from, through a document that it merges.
TEST(Tune, DoesNotJudgeOnWhatAModuleIsMadeFrom) {
  const Tuned tuned;
  const auto run = [&](int samples) {
    std::ofstream(tuned.recipe)
        << "name: m\nmerge_method: ties\nbase_model: demo/models/base\nmodels:\n"
           "- {model: demo/models/math, parameters: {weight: 1, density: 0.5}}\n"
           "lewis:\n  calibration:\n  - {model: demo/models/math, "
           "data: demo/data/math_train.jsonl, format: gsm8k, samples: "
        << samples
        << "}\n---\nmerge_method: task_arithmetic\nbase_model: demo/models/base\nmodules:\n"
           "  embed_tokens:\n    models: [{model: demo/models/math, parameters: {weight: 1}}]\n"
           "  default:\n    models: [{model: m, parameters: {weight: 1}}]\n"
           "parameters: {lambda: {search: [0.5, 1.5], start: 1}}\ndtype: bfloat16\nlewis:\n"
           "  calibration:\n  - {model: demo/models/math, data: demo/data/math_train.jsonl, "
           "format: gsm8k, samples: 4}\n  allocation: none\n";
    return run_lewis(tuned.dir.path, "tune " + tuned.recipe.string() + " -o " + tuned.out.string() +
                                         " --evaluations 1 --samples 24 --objective mean");
  };
  const auto all = run(0);
  EXPECT_EQ(all.code, 2);
  EXPECT_NE(all.err.find("merges are made from all but 0"), std::string::npos) << all.err;
  const auto few = run(4);
  EXPECT_EQ(few.code, 0) << few.err;
}

// What is no file has no place for a journal beside it.
TEST(Tune, WritesIntoNothingButAFile) {
  Tuned tuned;
  const std::filesystem::path fifo = tuned.dir.path / "fifo", link = tuned.dir.path / "link";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  std::filesystem::create_symlink(fifo, link);
  for (const auto& file : {fifo, link}) {
    tuned.out = file;
    const auto run = tuned.run();
    EXPECT_EQ(run.code, 2) << run.err;
    EXPECT_NE(run.err.find("is no regular file"), std::string::npos) << run.err;
    EXPECT_FALSE(std::filesystem::exists(file.string() + ".journal.jsonl"));
  }
}

// A journal that was cut off anywhere leads to the same bytes, by any number of threads.
TEST(Tune, GoesOnFromItsJournal) {
  const Tuned tuned;
  ASSERT_EQ(tuned.run("--threads 1").code, 0);
  const std::string recipe = file_text(tuned.out);
  const std::filesystem::path journal = tuned.out.string() + ".journal.jsonl";
  const std::string whole = file_text(journal);
  std::filesystem::resize_file(journal, whole.size() / 2);
  std::filesystem::remove(tuned.out);
  const auto again = tuned.run("--threads 3");
  EXPECT_EQ(file_text(tuned.out), recipe);
  EXPECT_EQ(file_text(journal), whole);
  EXPECT_GT(parse_json(again.out, "output")["taken_over"].get<int>(), 0);
}

TEST(Tune, BadInputIsRefusedBeforeAnyWork) {
  const auto refused = [](const Tuned& tuned, const std::string& more, const std::string& said) {
    const auto before = snapshot(tuned.dir.path);
    const auto run = tuned.run(more);
    EXPECT_EQ(run.code, 2) << said;
    EXPECT_NE(run.err.find(said), std::string::npos) << run.err;
    EXPECT_EQ(snapshot(tuned.dir.path), before) << said;
  };
  refused(Tuned("1"), "", "no range to search");
  refused(Tuned("{search: [2, 1]}"), "", "holds nothing to choose");
  refused(Tuned("{search: [0.3, 2]}", "math_test.jsonl"), "", "named as a test set");
  refused(Tuned(), "--held-out 1.5", "--held-out");
  refused(Tuned(), "--objective median", "the nearest is 'mean'");
  refused(Tuned(), "--evaluations 0", "--evaluations");
  const Tuned tuned;
  const auto merge = run_lewis(
      tuned.dir.path, "merge " + tuned.recipe.string() + " " + (tuned.dir.path / "m").string());
  EXPECT_EQ(merge.code, 2);
  EXPECT_NE(merge.err.find("lewis tune"), std::string::npos);
}

}  // namespace
}  // namespace lewis
