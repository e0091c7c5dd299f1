// lewis report and lewis merge --report as their user runs them.
#include <gtest/gtest.h>

#include <fstream>
#include <regex>

#include "base/json.h"
#include "run_lewis.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

class ReportVerb : public LewisTest {
 protected:
  std::string merged(const std::string& more = " --no-guidance") {
    EXPECT_EQ(lewis("merge demo/recipe.yml " + out() + " -q" + more).code, 0);
    return out();
  }
  std::string page() const { return file_text(dir_.path / "out" / "report.html"); }
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(ReportVerb, MergeWritesItWithEverything) {
  merged(" --report --max-memory 500M");
  const std::string html = page();
  for (const char* part :
       {"Importance", "Density", "Size of the task vector", "Energy dropped",
        "Share kept in the merge", "Sign conflict between experts", "budget 500 MB", "Every tensor",
        "74 merged", "model.layers.{0-7}.mlp.up_proj.weight", "math_train.jsonl",
        "norm_shift -&gt; min_max", "gamma: 0.3", "no --eval"})
    EXPECT_TRUE(has(html, part)) << part;
  EXPECT_LT(html.size(), 300'000u);
  // The record is no part of the result: the manifest does not know it, verify does not mind.
  EXPECT_FALSE(has(file_text(dir_.path / "out/lewis_manifest.json"), "lewis_run"));
  EXPECT_EQ(lewis("verify " + out()).code, 0);
  // Hashes of what was merged and of what came of it.
  const Json manifest = read_json(dir_.path / "out/lewis_manifest.json");
  EXPECT_TRUE(has(html, manifest["about"]["sources"][0]["fingerprint"]));
  EXPECT_TRUE(has(html, manifest["shards"][0]["sha256"]));
}

TEST_F(ReportVerb, SaysTheSameAsPlan) {
  merged("");
  const Json report = json("report " + out() + " --recipe demo/recipe.yml");
  std::string planned = json("plan demo/recipe.yml --diagnostics").dump();
  const std::string folder = "demo/models/";  // a report has no paths
  for (size_t at; (at = planned.find(folder)) != planned.npos;) planned.erase(at, folder.size());
  const Json plan = parse_json(planned, "plan");
  for (const char* part : {"tensors", "pairs"})
    EXPECT_EQ(report["diagnostics"][part], plan["diagnostics"][part]) << part;
  EXPECT_EQ(report["diagnostics"]["tensors"].size(), 74u);
  const double conflict = report["diagnostics"]["pairs"][0]["sign_conflict"];
  EXPECT_GT(conflict, 0.3);
  EXPECT_LT(conflict, 0.5);
}

TEST_F(ReportVerb, ASecondPageIsTheSame) {
  merged(" --report");
  const std::string first = page();
  EXPECT_EQ(lewis("report " + out() + " -j 1 -q --recipe demo/recipe.yml").code, 0);
  EXPECT_EQ(page(), first);
}

TEST_F(ReportVerb, ScoresAreComparedItemByItem) {
  merged();
  const std::string results = (dir_.path / "results").string();
  ASSERT_EQ(lewis("eval " + out() +
                  " demo/models/math demo/models/base --task loss:demo/data/math_test.jsonl:gsm8k "
                  "--limit 60 -q --output-path " +
                  results)
                .code,
            0);
  EXPECT_EQ(lewis("report " + out() + " -q --recipe demo/recipe.yml --eval " + results).code, 0);
  EXPECT_TRUE(has(page(), "answer_loss, 60 items, less is better"));
  EXPECT_TRUE(has(page(), "better than base by 0."));
  EXPECT_TRUE(has(page(), "worse than math by 0."));
  EXPECT_LT(page().find(">base</text>"), page().find(">math</text>"));
  EXPECT_LT(page().find(">math</text>"), page().find(">out</text>")) << "the merged model last";
  // The same on the card, once, however often it is written.
  const std::string before = file_text(out() + "/README.md");
  EXPECT_EQ(lewis("report " + out() + " -q --card").code, 2) << "without scores";
  for (int time = 0; time < 2; ++time) {
    ASSERT_EQ(lewis("report " + out() +
                    " -q --no-diagnostics --card --recipe demo/recipe.yml "
                    "--eval " +
                    results)
                  .code,
              0);
    std::string card = file_text(out() + "/README.md");
    EXPECT_TRUE(has(card, " | **out** | ")) << card;
    EXPECT_TRUE(has(card, "answer_loss: the merge is better than base (difference ")) << card;
    EXPECT_FALSE(has(card, "demo/models")) << card;
    const size_t begin = card.find("<!-- lewis: scores"), end = card.find("## How to merge");
    EXPECT_EQ(card.erase(begin, end - begin), before);
    EXPECT_EQ(lewis("verify -q " + out()).code, 0);
  }
}

// A file of lm-evaluation-harness itself: a model that has no part in the merge.
TEST_F(ReportVerb, ShowsResultsOfTheHarness) {
  merged();
  EXPECT_EQ(lewis("report " + out() + " -q --eval tests/data/eval/lm_eval").code, 0);
  EXPECT_TRUE(has(page(), "exact_match"));
  EXPECT_FALSE(has(page(), "better than"));
}

TEST_F(ReportVerb, FiguresAreFiles) {
  merged("");
  const Json written = json("report " + out() + " --recipe demo/recipe.yml --figures " +
                            (dir_.path / "figures").string());
  EXPECT_EQ(written["figures"].size(), 2 * 6 + 1 + 2u);
  for (const Json& f : written["figures"]) {
    const std::string svg = file_text(f.get<std::string>());
    EXPECT_TRUE(svg.starts_with("<svg xmlns=")) << f;
    EXPECT_FALSE(has(svg, "var(--")) << "other programs do not know it";
  }
}

// Without the models there are no diagnostics; the rest is there, and the page says so.
TEST_F(ReportVerb, SaysWhatIsMissing) {
  fs::copy(LEWIS_DEMO, dir_.path / "demo", fs::copy_options::recursive);
  ASSERT_EQ(run_lewis(dir_.path, "merge demo/recipe.yml out -q", dir_.path).code, 0);
  fs::remove_all(dir_.path / "demo/models/math");
  EXPECT_EQ(run_lewis(dir_.path, "report out -q", dir_.path).code, 0);
  EXPECT_TRUE(has(page(), "Not in this report"));
  EXPECT_TRUE(has(page(), "give the recipe that was merged with --recipe FILE"));
  EXPECT_TRUE(has(page(), "Importance"));
  EXPECT_FALSE(has(page(), "Sign conflict between"));
}

TEST_F(ReportVerb, ModelsThatWereChangedAreNotDiagnosed) {
  fs::copy(LEWIS_DEMO, dir_.path / "demo", fs::copy_options::recursive);
  ASSERT_EQ(run_lewis(dir_.path, "merge demo/recipe.yml out -q --no-guidance", dir_.path).code, 0);
  fs::copy(dir_.path / "demo/models/code/model.safetensors",
           dir_.path / "demo/models/math/model.safetensors", fs::copy_options::overwrite_existing);
  EXPECT_EQ(run_lewis(dir_.path, "report out -q --recipe demo/recipe.yml", dir_.path).code, 0);
  EXPECT_TRUE(has(page(), "has been changed since the merge"));
  EXPECT_FALSE(has(page(), "Sign conflict between"));
}

// A folder of an older lewis, or one whose record was deleted.
TEST_F(ReportVerb, WorksWithoutARecord) {
  merged("");
  fs::remove(dir_.path / "out/lewis_run.json");
  EXPECT_EQ(lewis("report " + out() + " -q --recipe demo/recipe.yml").code, 0);
  EXPECT_TRUE(has(page(), "has no lewis_run.json"));
  EXPECT_TRUE(has(page(), "Density")) << "from the recipe";
}

struct BadCase {
  std::string name, spoil, arguments;
  int code;
  std::string said;
};
void PrintTo(const BadCase& c, std::ostream* out) { *out << c.name; }

class BadReport : public testing::TestWithParam<BadCase> {};

TEST_P(BadReport, OneLineAndNoPage) {
  const BadCase& c = GetParam();
  const TempDir dir;
  const fs::path cwd = dir.path;
  ASSERT_EQ(run_lewis(cwd, "merge '" LEWIS_DEMO "/recipe.yml' " + (cwd / "out").string() +
                               " -q --no-guidance")
                .code,
            0);
  ASSERT_EQ(std::system(("cd '" + cwd.string() + "' && " + c.spoil).c_str()), 0);
  const auto before = snapshot(cwd);
  const lewis::Run result = run_lewis(cwd, c.arguments, cwd);
  EXPECT_EQ(result.code, c.code) << result.err;
  const size_t at = result.err.find("lewis: error:");
  ASSERT_NE(at, std::string::npos) << result.err;
  EXPECT_EQ(result.err.find('\n', at), result.err.size() - 1) << "one line: " << result.err;
  EXPECT_TRUE(has(result.err, c.said)) << result.err;
  EXPECT_EQ(snapshot(cwd), before);
}

INSTANTIATE_TEST_SUITE_P(
    Cli, BadReport,
    testing::Values(BadCase{"NoFolder", "true", "report nothing", 3, "nothing"},
                    BadCase{"NotMergedByLewis", "mkdir other", "report other", 3,
                            "lewis_manifest.json"},
                    BadCase{"ChangedManifest", "sed -i s/seed/sead/ out/lewis_manifest.json",
                            "report out", 5, "lewis_manifest.json"},
                    BadCase{"BrokenRecord", "echo '{}' > out/lewis_run.json", "report out", 3,
                            "lewis_run.json"},
                    BadCase{"NoResults", "true", "report out --eval e.json", 3, "e.json"},
                    BadCase{"BrokenResults", "echo '{\"models\": [{' > e.json",
                            "report out --eval e.json", 3, "e.json"},
                    BadCase{"OtherJson", "echo '{\"models\": 3}' > e.json",
                            "report out --eval e.json", 3, "e.json"},
                    BadCase{"NoRecipe", "rm out/mergekit_config.yml out/lewis_run.json",
                            "report out", 3, "mergekit_config.yml"},
                    BadCase{"PageIsAFolder", "mkdir out/report.html", "report out --no-diagnostics",
                            2, "report.html"},
                    BadCase{"UnknownOption", "true", "report out --evil x", 2, "--evil"}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace lewis
