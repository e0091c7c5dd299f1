// Nothing in OUT, and nothing in the report, names a folder of the machine that made it.
#include <gtest/gtest.h>

#include <fstream>

#include "../merge/memory_source.h"
#include "run_lewis.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTellTale = "tell-tale";

class Privacy : public LewisTest {
 protected:
  Privacy() {
    fs::create_directories(home_);
    fs::copy(LEWIS_DEMO, home_ / "demo", fs::copy_options::recursive);
    // As training leaves them behind.
    for (const char* name : {"base", "math"}) {
      const fs::path config = home_ / "demo/models" / name / "config.json";
      Json json = read_json(config);
      json["_name_or_path"] = (home_ / "run/checkpoint-10").string();
      std::ofstream(config) << json.dump(2) << "\n";
      std::ofstream(home_ / "demo/models" / name / "special_tokens_map.json")
          << R"({"special_tokens_map_file": ")" << home_.string() << R"(/x.json"})";
    }
  }

  fs::path write(const std::string& text) {
    std::string whole = "# " + (home_ / "demo").string() + " and ./demo/models/base\n" + text;
    for (size_t at; (at = whole.find('%')) != std::string::npos;)
      whole.replace(at, 1, (home_ / "demo").string());
    const fs::path file = home_ / "recipe.yml";
    std::ofstream(file) << whole;
    return file;
  }

  void expect_silent() {
    size_t files = 0;
    for (const auto& entry : fs::recursive_directory_iterator(dir_.path / "out")) {
      if (!entry.is_regular_file()) continue;
      ++files;
      const std::string text = file_text(entry.path());
      for (const std::string& tale : {std::string(kTellTale), dir_.path.string(),
                                      std::string("demo/models"), std::string("demo/data")}) {
        const size_t at = text.find(tale);
        EXPECT_EQ(at, std::string::npos)
            << entry.path() << ": " << text.substr(at < 80 ? 0 : at - 80, 200);
      }
    }
    EXPECT_GT(files, 6u);
  }

  fs::path home_ = dir_.path / (std::string(kTellTale) + "-folder");

  // Merges, writes the page twice, and looks for the tell-tale.
  void merged(const std::string& text, const std::string& options = "",
              const std::string& diagnosed = "Size of the task vector") {
    const fs::path recipe = write(text);
    const lewis::Run run = run_lewis(
        dir_.path, "merge " + recipe.string() + " '" + out() + "' -q --force --report" + options,
        home_);
    ASSERT_EQ(run.code, 0) << run.err;
    expect_silent();
    const std::string page = file_text(out() + "/report.html");
    EXPECT_NE(page.find(diagnosed), std::string::npos);
    EXPECT_EQ(lewis("verify -q " + out()).code, 0);
    // Elsewhere OUT's names lead nowhere; the recipe that was merged says what they are.
    const lewis::Run lost = run_lewis(dir_.path, "report --json " + out(), "/");
    EXPECT_EQ(lost.code, 0) << lost.err;
    EXPECT_NE(lost.out.find("--recipe FILE"), std::string::npos) << lost.out;
    expect_silent();
    EXPECT_EQ(run_lewis(dir_.path, "report " + out() + " --recipe " + recipe.string(), "/").code,
              0);
    EXPECT_EQ(file_text(out() + "/report.html"), page);
    const lewis::Run again = run_lewis(
        dir_.path, "merge " + recipe.string() + " " + out() + " -q --resume" + options, home_);
    EXPECT_EQ(again.code, 0) << again.err;
    EXPECT_NE(again.out.find("is complete already"), std::string::npos) << again.out;
  }
};

const std::string kModels =
    "merge_method: task_arithmetic\nbase_model: %/models/base\nmodels:\n- {model: %/models/math, "
    "parameters: {weight: 1}}\n- {model: demo/models/code, parameters: {weight: 1}}\n";

TEST_F(Privacy, PlainAndWithATokenizer) {
  merged(kModels);
  const std::string card = file_text(out() + "/README.md");
  EXPECT_NE(card.find("base_model:\n- \"math\"\n- \"code\"\n- \"base\"\n"), std::string::npos)
      << card;
  EXPECT_NE(card.find("lewis merge recipe.yml"), std::string::npos) << card;
  EXPECT_EQ(read_json(out() + "/config.json")["_name_or_path"], "base");
  merged(kModels + "tokenizer_source: %/models/math\n");
}

TEST_F(Privacy, GuidedByCalibration) {
  merged(
      "merge_method: ties\nbase_model: %/models/base\nmodels:\n- {model: %/models/math, "
      "parameters: "
      "{weight: 1}}\nparameters: {density: 0.5}\nlewis:\n  calibration:\n  - {model: "
      "%/models/math, data: %/data/math_train.jsonl, format: jsonl, prompt_field: question, "
      "answer_field: answer, samples: 2}\n",
      "", "Importance");
}

TEST_F(Privacy, Refined) {
  merged(kModels +
         "lewis:\n  calibration:\n  - {model: %/models/math, data: demo/data/math_train.jsonl, "
         "format: gsm8k}\n  - {model: demo/models/code, data: %/data/code_train.jsonl, format: "
         "mbpp}\n  refine: {samples: 4, ridge: 1}\n");
}

TEST_F(Privacy, StagesAdaptersAndIds) {
  const fs::path lora = home_ / "lora";
  MemorySource adapter;
  const std::string name = "base_model.model.model.layers.0.mlp.down_proj.";
  const Json config = read_json(home_ / "demo/models/base/config.json");
  const int64_t in = config["intermediate_size"], size = config["hidden_size"];
  fs::create_directories(lora);
  adapter.add(name + "lora_A.weight", DType::kF32, {1, in},
              std::vector<float>(static_cast<size_t>(in), 0.01f));
  adapter.add(name + "lora_B.weight", DType::kF32, {size, 1},
              std::vector<float>(static_cast<size_t>(size), 0.01f));
  adapter.write(lora / "adapter_model.safetensors");
  std::ofstream(lora / "adapter_config.json")
      << R"({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "base_model_name_or_path": ")"
      << home_.string() << R"("})";
  merged("name: first\n" + kModels +
             "---\nmerge_method: task_arithmetic\nbase_model: %/models/base\nmodels:\n- {model: "
             "first, parameters: {weight: 0.5}}\n- {model: %/models/base+" +
             lora.string() + ", parameters: {weight: 1}}\n",
         " --base-model-id me/base --model-id lora=me/lora");
  const std::string recipe = file_text(out() + "/mergekit_config.yml");
  EXPECT_NE(recipe.find("\"me/base+me/lora\""), std::string::npos) << recipe;
  EXPECT_NE(file_text(out() + "/README.md").find("- \"me/lora\""), std::string::npos);
}

TEST_F(Privacy, IdsThatNameNothingAreRefused) {
  const std::string merge = "merge " + write(kModels).string() + " " + out() + " -q ";
  for (const char* wrong : {"--model-id nothing=me/x", "--model-id base=../x", "--model-id base",
                            "--base-model-id 'a b'"}) {
    const lewis::Run run = run_lewis(dir_.path, merge + wrong, home_);
    EXPECT_EQ(run.code, 2) << wrong << run.err;
    EXPECT_NE(run.err.find("-id"), std::string::npos) << run.err;
    EXPECT_FALSE(fs::exists(out()));
  }
}

// A job that is queued again does not fail, and does nothing.
TEST_F(Privacy, ResumingWhatIsComplete) {
  const std::string merge = "merge " + write(kModels).string() + " " + out() + " -q";
  ASSERT_EQ(run_lewis(dir_.path, merge + " --resume", home_).code, 0);
  const auto before = snapshot(out());
  EXPECT_EQ(run_lewis(dir_.path, merge + " --resume", home_).code, 0);
  const lewis::Run told = run_lewis(dir_.path, merge + " --resume --json", home_);
  EXPECT_EQ(parse_json(told.out, "stdout")["was_complete"], true);
  EXPECT_EQ(snapshot(out()), before);
  EXPECT_EQ(run_lewis(dir_.path, merge, home_).code, 2) << "without --resume";
  EXPECT_EQ(run_lewis(dir_.path, merge + " --require-partial", home_).code, 2);
  for (const char* other : {" --seed 3", " --out-shard-size 1M", " --no-copy-tokenizer"}) {
    const lewis::Run run = run_lewis(dir_.path, merge + " --resume" + other, home_);
    EXPECT_EQ(run.code, 2) << other;
    EXPECT_NE(run.err.find("of another merge"), std::string::npos) << run.err;
  }
  write(kModels + "dtype: float32\n");
  EXPECT_EQ(run_lewis(dir_.path, merge + " --resume", home_).code, 2);
  write(kModels);
  EXPECT_EQ(run_lewis(dir_.path, merge + " --resume", home_).code, 0);
  fs::resize_file(out() + "/model.safetensors", 1000);
  const lewis::Run cut = run_lewis(dir_.path, merge + " --resume", home_);
  EXPECT_EQ(cut.code, 5) << cut.err;
  EXPECT_NE(cut.err.find("1000 bytes"), std::string::npos) << cut.err;
}

}  // namespace
}  // namespace lewis
