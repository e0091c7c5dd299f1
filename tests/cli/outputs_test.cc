// Recipes with outputs as their users run them.
#include <gtest/gtest.h>

#include <algorithm>

#include "run_lewis.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

class OutputsProgram : public LewisTest {
 protected:
  OutputsProgram() {
    const fs::path models = LEWIS_TEST_DATA "/golden/merges/models";
    fs::create_directory(dir_.path / "run");
    for (const auto& [step, from] : {std::pair(2, "base"), {10, "a"}, {30, "b"}})
      fs::copy(models / from, dir_.path / "run" / fmt::format("step-{}", step),
               fs::copy_options::recursive);
    write("r.yml", kRecipe);
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(dir_.path / name) << text;
  }
  std::string recipe(const std::string& name = "r.yml") const {
    return (dir_.path / name).string();
  }
  void expect_refused(const lewis::Run& run, int code, const std::string& said) {
    EXPECT_EQ(run.code, code) << run.err;
    EXPECT_NE(run.err.find(said), std::string::npos) << run.err;
  }

  const std::string kRecipe =
      "merge_method: linear\nmodels: {glob: \"run/step-*\"}\noutputs:\n- {name: mean, average: "
      "uniform}\n- {name: ema, average: ema, alpha: 0.5}\n";
};

TEST_F(OutputsProgram, WritesAFolderOfModels) {
  const lewis::Run dry = lewis("merge --dry-run " + recipe() + " " + out());
  EXPECT_EQ(dry.code, 0) << dry.err;
  EXPECT_NE(dry.out.find("Output ema: ema, alpha 0.5; 3 of 3 models: 0.25 of run/step-2, ..., 0.5 "
                         "of run/step-30"),
            std::string::npos)
      << dry.out;
  EXPECT_FALSE(fs::exists(out()));
  const lewis::Run check = lewis("check " + recipe());
  EXPECT_NE(check.out.find("output mean: uniform; 3 of 3 models"), std::string::npos) << check.out;
  const Json made = json("merge " + recipe() + " " + out() + " --report");
  ASSERT_EQ(made["outputs"].size(), 2u);
  EXPECT_EQ(made["outputs"][1]["name"], "ema");
  EXPECT_EQ(made["outputs"][1]["shares"][2]["share"], 0.5);
  EXPECT_EQ(made["bytes_written"].get<uint64_t>(),
            2 * made["outputs"][0]["bytes_written"].get<uint64_t>());
  for (const char* name : {"mean", "ema"}) {
    const fs::path folder = fs::path(out()) / name;
    EXPECT_TRUE(fs::exists(folder / "report.html"));
    EXPECT_EQ(lewis("verify " + folder.string()).code, 0);
    // Card, record and recipe say the weights, and no place of this machine.
    for (const char* file : {"README.md", "lewis_run.json", "mergekit_config.yml"}) {
      const std::string text = file_text(folder / file);
      EXPECT_NE(text.find(name == std::string("ema") ? "weight: 0.25" : "weight: 1"),
                std::string::npos)
          << text;
      EXPECT_EQ(text.find(dir_.path.string()), std::string::npos) << text;
      EXPECT_EQ(text.find("run/step"), std::string::npos) << text;
    }
  }
  // The recipe of each makes it again.
  fs::copy(fs::path(out()) / "ema" / "mergekit_config.yml", dir_.path / "run" / "ema.yml");
  const std::string again = (dir_.path / "again" / "ema").string();
  const lewis::Run alone = lewis("merge " + recipe("run/ema.yml") + " " + again);
  EXPECT_EQ(alone.code, 0) << alone.err;
  EXPECT_EQ(file_text(again + "/model.safetensors"), file_text(out() + "/ema/model.safetensors"));
}

TEST_F(OutputsProgram, ResumesWhatIsMissing) {
  EXPECT_EQ(lewis("merge " + recipe() + " " + out() + " -q").code, 0);
  expect_refused(lewis("merge " + recipe() + " " + out() + " -q"), 2, "exists");
  const auto before = snapshot(out());
  write("r.yml", kRecipe + "- {name: last, average: lawa, last: 1}\n");
  const Json more = json("merge " + recipe() + " " + out() + " --resume");
  EXPECT_EQ(more["outputs"][0]["was_complete"], true);
  EXPECT_EQ(more["outputs"][2]["was_complete"], false);
  auto after = snapshot(out());
  std::erase_if(after, [](const auto& f) { return f.first.starts_with("last"); });
  EXPECT_EQ(after, before);
  EXPECT_EQ(json("merge " + recipe() + " " + out() + " --resume")["was_complete"], true);
  write("r.yml",
        "merge_method: linear\nmodels: {glob: \"run/step-*\"}\noutputs:\n- {name: mean, "
        "average: wma}\n");
  expect_refused(lewis("merge " + recipe() + " " + out() + " --resume -q"), 2, "another merge");
  EXPECT_EQ(lewis("merge " + recipe() + " " + out() + " --force -q").code, 0);
}

TEST_F(OutputsProgram, WorksInParts) {
  const std::string options = " -q --out-shard-size 8K";
  EXPECT_EQ(lewis("merge " + recipe() + " " + out() + options).code, 0);
  const auto expected = result_of(out());
  fs::remove_all(out());
  for (const char* part : {"1/3", "0/3", "2/3"}) {
    const lewis::Run run = lewis("merge " + recipe() + " " + out() + options + " --part " + part);
    EXPECT_EQ(run.code, 0) << run.err;
    EXPECT_EQ(fs::exists(out() + "/mean"), std::string(part) == "2/3");
  }
  EXPECT_EQ(result_of(out()), expected);
}

TEST_F(OutputsProgram, IsRefused) {
  const auto refused = [&](const std::string& arguments, int code, const std::string& said) {
    expect_refused(lewis(arguments), code, said);
    EXPECT_FALSE(fs::exists(out())) << arguments;
  };
  refused("merge " + recipe() + " " + out() + " -q --report=" + out() + ".html", 2, "--report");
  refused("merge " + recipe() + " " + recipe("run/step-2") + " -q", 2, "is a model");
  refused("eval " + recipe() + " --tasks loss:x -q", 2, "");
  std::ofstream(dir_.path / "run" / "step-10" / "model.safetensors") << "short";
  refused("merge " + recipe() + " " + out() + " -q", 3, "step-10");
  write("r.yml",
        "merge_method: linear\nmodels: {glob: \"run/stop-*\"}\noutputs:\n- {name: mean, "
        "average: uniform}\n");
  refused("merge " + recipe() + " " + out() + " -q", 2, "no folder matches");
}

}  // namespace
}  // namespace lewis
