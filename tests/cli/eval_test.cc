// lewis eval as its user runs it: results on disk, going on where a run stopped, tables that fit.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/json.h"
#include "base/text_file.h"
#include "cli/terminal.h"
#include "eval_contents.h"
#include "run_lewis.h"
#include "scoped_env.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

const std::string kEval =
    "eval demo/models/base demo/models/math --task gsm8k:demo/data/math_test.jsonl --task "
    "loss:demo/data/code_test.jsonl:mbpp --limit 12 --max-new-tokens 40 --baseline base ";

class Eval : public LewisTest {
 protected:
  std::string folder(const std::string& name) const { return (dir_.path / name).string(); }
};

TEST_F(Eval, GoesOnWhereItStopped) {
  const lewis::Run whole = lewis(kEval + "-q --log-samples --output-path " + folder("whole"));
  ASSERT_EQ(whole.code, 0) << whole.err;
  ASSERT_EQ(lewis(kEval + "-q --output_path " + folder("cut")).code, 0);
  // As a kill leaves it: no results, journals of which some are half there and one is torn.
  size_t journals = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder("cut"))) {
    if (entry.path().filename().string().starts_with("results_")) fs::remove(entry.path());
    if (entry.path().parent_path().filename() != "items" || !entry.is_regular_file()) continue;
    fs::resize_file(entry.path(), fs::file_size(entry.path()) * (journals + 1) / 5);
    ++journals;
  }
  EXPECT_EQ(journals, 4u);
  const lewis::Run again = lewis(kEval + "--log_samples --output-path " + folder("cut"));
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_NE(again.err.find("of 12 items are there from an earlier run"), std::string::npos)
      << again.err;
  EXPECT_EQ(eval_contents(folder("cut")), eval_contents(folder("whole")));
  // Another setting takes nothing over.
  const lewis::Run other = lewis(kEval + "--temperature 0.7 --output-path " + folder("cut"));
  EXPECT_EQ(other.err.find("gsm8k: "), std::string::npos) << other.err;
}

TEST_F(Eval, WritesTheHarnesssShapeAndReadsItBack) {
  ASSERT_EQ(lewis(kEval + "-q --log-samples --output-path " + folder("out")).code, 0);
  const fs::path math = dir_.path / "out/demo__models__math";
  Json file;
  for (const auto& entry : fs::directory_iterator(math)) {
    if (entry.path().filename().string().starts_with("results_")) file = read_json(entry.path());
  }
  for (const char* key : {"exact_match,strict-match", "exact_match_stderr,flexible-extract"})
    EXPECT_TRUE(file["results"]["gsm8k"][key].is_number()) << key;
  EXPECT_TRUE(file["results"]["loss_code_test"]["answer_loss,none"].is_number());
  EXPECT_EQ(file["versions"]["gsm8k"], 3);
  EXPECT_EQ(file["n-shot"]["gsm8k"], 0);
  EXPECT_EQ(file["n-samples"]["gsm8k"]["effective"], 12);
  EXPECT_EQ(file["higher_is_better"]["loss_code_test"]["answer_loss"], false);
  EXPECT_EQ(file["model_name"], "demo/models/math");
  EXPECT_EQ(file["lewis"]["baseline"], "base");
  // Shown again from the files, and beside the harness's own: the same numbers.
  const lewis::Run again =
      lewis("eval --results " + math.string() + " --results " + folder("out/demo__models__base") +
            " --results " + LEWIS_TEST_DATA "/eval/lm_eval --baseline base --json");
  ASSERT_EQ(again.code, 0) << again.err;
  const Json models = parse_json(again.out, "stdout")["models"];
  EXPECT_EQ(models[0]["lewis"]["name"], "math");
  EXPECT_EQ(models[0]["results"], file["results"]);
  EXPECT_EQ(models[0]["lewis"]["tasks"], file["lewis"]["tasks"]);
  EXPECT_EQ(models[2]["lewis"]["name"], "math (lm_eval 0.4.13)");
  EXPECT_EQ(models[2]["results"]["gsm8k_demo"]["exact_match,strict-match"], 0.7);
}

TEST_F(Eval, SaysWhatCannotBe) {
  const auto refused = [&](const std::string& arguments, int code, const std::string& part) {
    const lewis::Run run = lewis("eval " + arguments);
    EXPECT_EQ(run.code, code) << run.err;
    EXPECT_NE(run.err.find(part), std::string::npos) << run.err;
  };
  refused("", 2, "nothing to show");
  refused("demo/models/base", 2, "no --task");
  refused("--task loss:x:ids", 2, "no model");
  refused("demo/models/base --task loss:demo/data/math_test.jsonl:gsm8k --log-samples", 2,
          "--output-path");
  refused("demo/models/base --task loss:demo/data/math_test.jsonl:gsm8k --baseline bas", 2,
          "none of the models: base");
  refused("demo/models/base --task loss", 2, "no data");
  refused(
      "demo/models/base demo/models/base/ --task loss:demo/data/math_test.jsonl:gsm8k "
      "--output-path " +
          folder("two"),
      2, "would have one folder");
  refused("--results demo/recipe.yml", 3, "recipe.yml");
  refused("--results demo/models", 3, "holds no results_");
}

// Tasks of one name have results of their own.
TEST_F(Eval, NamesOfTasksAreUnique) {
  const lewis::Run run = lewis(
      "eval demo/models/base --task gsm8k:demo/data/math_test.jsonl --task "
      "gsm8k:demo/data/math_train.jsonl --task gsm8k:demo/data/math_test.jsonl --limit 2 "
      "--max-new-tokens 2 --json -q");
  ASSERT_EQ(run.code, 0) << run.err;
  const Json results = parse_json(run.out, "stdout")["models"][0]["results"];
  EXPECT_TRUE(results.contains("gsm8k"));
  EXPECT_TRUE(results.contains("gsm8k_math_train"));
  EXPECT_TRUE(results.contains("gsm8k_math_test"));
}

TEST_F(Eval, TablesFitTheTerminal) {
  for (const int width : {80, 200}) {
    const ScopedEnv columns("COLUMNS", std::to_string(width));
    const lewis::Run run = lewis(kEval + "--task loss:demo/data/math_test.jsonl:gsm8k -q");
    ASSERT_EQ(run.code, 0) << run.err;
    EXPECT_EQ(run.out.find('\x1b'), std::string::npos) << "no colour in a pipe";
    size_t widest = 0, lines = 0;
    for (const std::string_view line : split_lines(run.out)) {
      widest = std::max(widest, display_width(line));
      ++lines;
    }
    EXPECT_LE(widest, static_cast<size_t>(width)) << run.out;
    // Beside each other where there is room, else one below the other.
    const bool beside = run.out.find("gsm8k math_test") < run.out.find('\n') &&
                        run.out.find("loss code_test") < run.out.find('\n');
    EXPECT_EQ(beside, width == 200) << run.out;
  }
}

}  // namespace
}  // namespace lewis
