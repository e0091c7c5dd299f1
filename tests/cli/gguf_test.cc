// GGUF files where the program takes a model.
#include <fstream>

#include "run_lewis.h"

namespace lewis {
namespace {

class GgufFiles : public LewisTest {
 protected:
  std::string math(const std::string& type) {
    const std::string file = (dir_.path / ("math-" + type + ".gguf")).string();
    const Run made = lewis("convert demo/models/math " + file + " --force -q --type " + type);
    EXPECT_EQ(made.code, 0) << made.err;
    return file;
  }
  std::string recipe(const std::string& model) {
    const std::string file = (dir_.path / "recipe.yml").string();
    std::ofstream(file) << "merge_method: task_arithmetic\nbase_model: demo/models/base\nmodels:\n"
                           "- {model: "
                        << model << ", parameters: {weight: 1}}\n";
    return file;
  }
};

TEST_F(GgufFiles, InspectShowsTensorsTypesAndMetadata) {
  const std::string file = math("q8_0");
  const Json all = json("inspect " + file);
  EXPECT_EQ(all["parameters"], 1706112);
  EXPECT_EQ(all["parameters_of_dtype"], (Json{{"F32", 2176}, {"Q8_0", 1703936}}));
  EXPECT_EQ(all["tensors"]["blk.3.attn_q.weight"],
            (Json{{"dtype", "Q8_0"}, {"shape", {128, 128}}}));
  EXPECT_EQ(all["metadata"]["llama.block_count"], 8);
  EXPECT_EQ(all["metadata"]["llama.attention.layer_norm_rms_epsilon"], 1e-5);
  EXPECT_EQ(all["metadata"]["tokenizer.ggml.tokens"]["count"], 1024);
  EXPECT_EQ(all["metadata"]["tokenizer.ggml.tokens"]["first"][0], "<|endoftext|>");
  const Run shown = lewis("inspect " + file);
  for (const char* words : {"blk.*.attn_q.weight", "Q8_0", "general.architecture: llama",
                            "tokenizer.ggml.merges: 767 elements"})
    EXPECT_NE(shown.out.find(words), std::string::npos) << words;
  const Json tensor = json("inspect " + file + " output_norm.weight");
  const Json in_folder = json("inspect demo/models/math model.norm.weight");
  EXPECT_EQ(tensor["mean"], in_folder["mean"]);
  EXPECT_EQ(lewis("inspect " + file + " model.norm.weight").code, 3) << "the file's own names";
}

TEST_F(GgufFiles, StandWhereAModelDoes) {
  const std::string file = math("f32");
  const Json difference = json("diff demo/models/math " + file);
  EXPECT_EQ(difference["all"]["relative_change"], 0);
  EXPECT_EQ(difference["only_in_a"], Json::array());
  EXPECT_EQ(difference["only_in_b"], Json::array());
  // Statistics of the file are those of the folder.
  const std::string text = " --data demo/data/math_train.jsonl --format gsm8k --samples 2 -q -o ";
  const std::string a = (dir_.path / "a.gguf").string(), b = (dir_.path / "b.gguf").string();
  ASSERT_EQ(lewis("calibrate demo/models/math" + text + a).code, 0);
  ASSERT_EQ(lewis("calibrate " + file + text + b).code, 0);
  const Json sums_a = json("inspect " + a + " blk.2.ffn_up.weight.in_sum2");
  const Json sums_b = json("inspect " + b + " blk.2.ffn_up.weight.in_sum2");
  EXPECT_EQ(sums_a["mean"], sums_b["mean"]);
  EXPECT_GT(sums_a["mean"], 0);
}

TEST_F(GgufFiles, CheckSaysHowLargeTheRoundingIs) {
  const Run checked = lewis("check " + recipe(math("q4_0")));
  EXPECT_EQ(checked.code, 0) << checked.err;
  EXPECT_NE((checked.out + checked.err).find(" to 1"), std::string::npos) << checked.out;
}

TEST_F(GgufFiles, BadOnesAreRefusedAndNothingIsWritten) {
  const std::string file = math("q8_0");
  const std::string bytes = file_text(file);
  const std::string bad = (dir_.path / "bad.gguf").string();
  const auto refuses = [&](const std::string& content, const std::string& words) {
    std::ofstream(bad, std::ios::binary) << content;
    const Run merged = lewis("merge " + recipe(bad) + " " + out());
    EXPECT_EQ(merged.code, 3) << merged.err;
    EXPECT_NE(merged.err.find("bad.gguf"), std::string::npos) << merged.err;
    EXPECT_NE(merged.err.find(words), std::string::npos) << merged.err;
    EXPECT_FALSE(std::filesystem::exists(out()));
  };
  refuses(bytes.substr(0, bytes.size() / 2), "truncated?");
  refuses("GGML" + bytes.substr(4), "does not begin with 'GGUF'");
  refuses(bytes + std::string(64, 'x'), "appended");
  std::string other = bytes;
  other.replace(other.find("llama"), 5, "mamba");
  refuses(other, "mamba");
  const Run missing = lewis("merge " + recipe("no-such.gguf") + " " + out());
  EXPECT_EQ(missing.code, 2) << missing.err;
}

}  // namespace
}  // namespace lewis
