// Importance matrices out of and into the program, on the demo's models.
#include <gtest/gtest.h>

#include "base/json.h"
#include "io/gguf.h"
#include "run_lewis.h"
#include "temp_dir.h"

namespace lewis {
namespace {

class ImatrixVerbs : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return (dir_.path / name).string(); }

  void calibrate(const std::string& model, const std::string& out, const std::string& more) {
    const lewis::Run run = run_lewis(
        dir_.path, "calibrate demo/models/" + model +
                       " --data demo/data/math_train.jsonl --format gsm8k --samples 4 -q -o " +
                       path(out) + more);
    ASSERT_EQ(run.code, 0) << run.err;
  }

  // What `lewis plan` says of a recipe whose calibration entry ends in `entry`.
  lewis::Run plan(const std::string& entry, const std::string& protocol = "clean") {
    std::ofstream(path("recipe.yml"))
        << "merge_method: ties\nbase_model: " << base_ << "\nmodels:\n- model: " << math_
        << "\n  parameters: {weight: 1}\nlewis:\n  protocol: " << protocol
        << "\n  calibration: [{model: " << math_ << ", " << entry << "}]\n";
    return run_lewis(dir_.path, "plan " + path("recipe.yml") + " --json -q");
  }
  Json layers(const std::string& entry) {
    const lewis::Run run = plan(entry);
    EXPECT_EQ(run.code, 0) << run.err;
    return parse_json(run.out, "stdout")["models"][0]["layers"];
  }
  static std::string given(const std::string& base, const std::string& model) {
    return "statistics: {base: " + base + ", model: " + model + "}";
  }
  void expect_refused(const lewis::Run& run, const std::string& said) {
    EXPECT_EQ(run.code, 3);
    EXPECT_NE(run.err.find(said), std::string::npos) << run.err << "\nexpected: " << said;
  }

  TempDir dir_;
  std::string base_ = LEWIS_DEMO "/models/base", math_ = LEWIS_DEMO "/models/math";
};

// Without running a model, of a family that lewis does not know.
TEST_F(ImatrixVerbs, PlanIsThatOfOwnStatistics) {
  const Json own = layers("data: demo/data/math_train.jsonl, format: gsm8k, samples: 4");
  std::filesystem::remove_all(path("cache"));
  calibrate("base", "base.gguf", "");
  calibrate("math", "math.gguf", "");
  for (std::string* model : {&base_, &math_}) {
    const std::filesystem::path copy = path(std::filesystem::path(*model).filename());
    std::filesystem::copy(*model, copy);
    Json config = parse_json(file_text(copy / "config.json"), "config.json");
    config["model_type"] = "nobody_knows";
    std::ofstream(copy / "config.json") << config.dump();
    *model = copy;
  }
  const Json found = layers(given("base.gguf", "math.gguf"));  // beside the recipe
  EXPECT_FALSE(std::filesystem::exists(path("cache")));
  ASSERT_EQ(found.size(), own.size());
  for (const auto& [module, layer] : own.items()) {
    EXPECT_NEAR(found[module]["density"].get<double>(), layer["density"].get<double>(), 1e-5);
    for (const char* norm : {"base_norm", "expert_norm"}) {
      const double value = layer[norm].get<double>();
      EXPECT_NEAR(found[module][norm].get<double>(), value, 1e-7 * value) << module;
    }
  }
}

TEST_F(ImatrixVerbs, RefusesWhatIsNotOfTheSameText) {
  calibrate("base", "base.gguf", "");
  calibrate("base", "base.safetensors", "");
  calibrate("math", "math.gguf", "");
  calibrate("math", "longer.gguf", " --max-tokens 40");
  EXPECT_EQ(plan(given("base.safetensors", "math.gguf")).code, 0);  // each in its own format
  expect_refused(plan(given("base.gguf", "longer.gguf")), "must be of the same text");
  expect_refused(plan(given("base.gguf", "math.gguf"), "reference"), "protocol reference");
  const std::string bytes = file_text(path("math.gguf"));
  std::ofstream(path("cut.gguf")) << bytes.substr(0, bytes.size() / 2);
  expect_refused(plan(given("base.gguf", "cut.gguf")), "truncated?");
  std::ofstream(path("old.dat")) << std::string(64, '\1');
  expect_refused(plan(given("old.dat", "math.gguf")), "llama-imatrix --in-file");
}

TEST_F(ImatrixVerbs, ReferenceIsRefusedBeforeTheWork) {
  const lewis::Run run =
      run_lewis(dir_.path,
                "calibrate demo/models/base --data demo/data/math_train.jsonl --format "
                "gsm8k --protocol reference -o " +
                    path("x.gguf"));
  EXPECT_EQ(run.code, 2);
  EXPECT_NE(run.err.find("protocol clean"), std::string::npos) << run.err;
  EXPECT_FALSE(std::filesystem::exists(path("x.gguf")));
}

}  // namespace
}  // namespace lewis
