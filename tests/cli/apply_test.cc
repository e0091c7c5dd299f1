// lewis apply and lewis verify --adapter as their user runs them, on the demo's model.
#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <sstream>

#include "merge/memory_source.h"
#include "run_lewis.h"

namespace lewis {
namespace {

class Apply : public LewisTest {
 protected:
  Apply() {
    std::mt19937 random(4);
    std::normal_distribution<float> normal(0, 0.1f);
    MemorySource file;
    const auto add = [&](const std::string& name, const Shape& shape) {
      std::vector<float> values(static_cast<size_t>(element_count(shape)));
      for (float& v : values) v = normal(random);
      file.add("base_model.model.model.layers.2.self_attn.q_proj." + name, DType::kF32, shape,
               values);
    };
    add("lora_A.weight", {4, 128});
    add("lora_B.weight", {128, 4});
    std::filesystem::create_directories(adapter());
    file.write(dir_.path / "lora" / "adapter_model.safetensors");
    std::ofstream(dir_.path / "lora" / "adapter_config.json")
        << Json{{"peft_type", "LORA"}, {"r", 4}, {"lora_alpha", 8}};
  }
  std::string adapter() const { return (dir_.path / "lora").string(); }
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

TEST_F(Apply, WritesAndProves) {
  const lewis::Run run =
      lewis("apply demo/models/base+" + adapter() + " " + out() + " -q --report");
  EXPECT_EQ(run.code, 0) << run.err;
  const auto lines = lines_of(run.out);
  ASSERT_EQ(lines.size(), 5u) << run.out << "the model, three lines, the report";
  EXPECT_NE(lines[1].find("holds the adapter in the one tensor that it changes"),
            std::string::npos);
  EXPECT_NE(lines[2].find("rounding to BF16 eats "), std::string::npos) << lines[2];
  EXPECT_NE(lines[3].find("beside 1 linear layers at run time"), std::string::npos) << lines[3];
  EXPECT_NE(file_text(out() + "/report.html").find("Is the adapter in it?"), std::string::npos);
  EXPECT_EQ(lewis("verify -q " + out()).code, 0);
  // The same, named otherwise.
  const std::string again = (dir_.path / "again").string();
  EXPECT_EQ(json("apply demo/models/base --adapter " + adapter() + " " + again)["proofs"].size(),
            1u);
  EXPECT_EQ(file_text(out() + "/model.safetensors"), file_text(again + "/model.safetensors"));
}

TEST_F(Apply, VerifySaysWhatIsThere) {
  ASSERT_EQ(lewis("apply demo/models/base+" + adapter() + " " + out() + " -q --no-proof").code, 0);
  const std::string of = " -q --no-logits --base demo/models/base --adapter " + adapter();
  EXPECT_EQ(lewis("verify " + out() + of).code, 0);
  const lewis::Run absent = lewis("verify demo/models/base" + of);
  EXPECT_EQ(absent.code, 5);
  EXPECT_NE(absent.out.find("in 0 of 1 tensors"), std::string::npos) << absent.out;
  EXPECT_NE(absent.out.find("is that of the base"), std::string::npos) << absent.out;
  const std::string twice = (dir_.path / "twice").string();
  ASSERT_EQ(lewis("apply " + out() + "+" + adapter() + " " + twice + " -q --no-proof").code, 0);
  const lewis::Run found = lewis("verify " + twice + of + " --json");
  EXPECT_EQ(found.code, 5);
  const Json proof = parse_json(found.out, "stdout");
  EXPECT_EQ(proof["holds"], false);
  const Json& tensor = proof["tensors"]["model.layers.2.self_attn.q_proj.weight"];
  EXPECT_EQ(tensor["verdict"], "factor");
  EXPECT_NEAR(tensor["factor"].get<double>(), 2, 0.01);
}

TEST_F(Apply, WrongWordsAreRefused) {
  for (const std::string& command :
       {"apply demo/models/base " + out(), "apply demo/models/base+ " + out(),
        "apply demo/models/base+" + adapter() + " " + out() + " --dtype int3",
        "verify demo/models/base --adapter " + adapter(),
        "merge demo/recipe.yml --no-guidance --prove " + out()}) {
    const lewis::Run run = lewis(command + " -q");
    EXPECT_EQ(run.code, 2) << command << run.err;
    EXPECT_EQ(lines_of(run.err).size(), 1u) << run.err;
    EXPECT_FALSE(std::filesystem::exists(out())) << command;
  }
}

}  // namespace
}  // namespace lewis
