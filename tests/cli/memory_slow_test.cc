// --max-memory, and the memory that lewis says it needs, against what the system measures.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include <cstdint>
#include <fstream>
#include <random>
#include <span>
#include <vector>

#include "demo_recipe.h"
#include "io/safetensors.h"
#include "programs.h"
#include "run_lewis.h"

namespace lewis {
namespace {

class Memory : public LewisTest {
 protected:
  // A refining recipe on so much text that its activations are most of the memory.
  void SetUp() override {
    if (sanitized()) GTEST_SKIP() << "the sanitizer needs several times the memory";
    write_recipe("1");
  }

  void write_recipe(const std::string& lambda) const {
    write_demo_recipe(recipe_, lambda);
    std::ofstream(recipe_, std::ios::app) << "  refine: {samples: 80}\n";
  }

  // Runs the program and returns the most memory that was resident, in bytes.
  uint64_t peak_of(const std::string& arguments) const {
    const std::string command = "cd '" + std::string(LEWIS_SOURCE) + "' && LEWIS_CACHE='" +
                                (dir_.path / "cache").string() + "' exec '" + lewis_program() +
                                "' " + arguments + " -q >/dev/null 2>'" +
                                (dir_.path / "err").string() + "'";
    const pid_t child = ::fork();
    if (child == 0) {
      ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
      ::_exit(127);
    }
    int status = 0;
    rusage usage{};
    ::wait4(child, &status, 0, &usage);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << file_text(dir_.path / "err");
    return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
  }

  std::string least() {
    return std::to_string(
        json("merge " + recipe_ + " " + out() + " --dry-run")["refinement"]["least_memory"]
            .get<uint64_t>());
  }

  std::string recipe_ = (dir_.path / "r.yml").string();
};

TEST_F(Memory, OfARefinementIsWhatWasSaid) {
  const Json cost = json("merge " + recipe_ + " " + out() + " --dry-run")["refinement"];
  const auto said = cost["peak_memory"].get<uint64_t>();
  const uint64_t peak = peak_of("merge " + recipe_ + " " + out());
  EXPECT_LE(peak, said);
  EXPECT_GE(peak, said / 2) << "the estimate is far too high";
}

TEST_F(Memory, OfARefinementKeepsTheLimit) {
  const std::string limit = least();
  EXPECT_LE(peak_of("merge " + recipe_ + " " + out() + " --max-memory " + limit),
            std::stoull(limit));
}

TEST_F(Memory, OfAnEvaluatedRecipeKeepsTheLimit) {
  const std::string limit = least();
  EXPECT_LE(peak_of("eval " + recipe_ +
                    " --task loss:demo/data/math_test.jsonl:gsm8k --limit 5 "
                    "--max-memory " +
                    limit),
            std::stoull(limit));
}

TEST_F(Memory, OfTuningKeepsTheLimit) {
  const std::string limit = least();
  write_recipe("{search: [0.3, 2], start: 1}");
  EXPECT_LE(peak_of("tune " + recipe_ + " -o " + out() +
                    " --samples 24 --evaluations 2 --max-memory " + limit),
            std::stoull(limit));
}

// A llama of one small block and a large vocabulary, with weights of about 0.02.
void write_model(const std::filesystem::path& folder, uint32_t seed) {
  constexpr int64_t kVocab = 300'000, kWidth = 64;
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "config.json")
      << R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
        "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
        "vocab_size": 300000, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        "max_position_embeddings": 512, "tie_word_embeddings": true})";
  std::vector<TensorInfo> tensors = {{"model.embed_tokens.weight", DType::kBF16, {kVocab, kWidth}}};
  const std::string layer = "model.layers.0.";
  for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                           "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
    tensors.push_back({layer + name + ".weight", DType::kBF16, {kWidth, kWidth}});
  for (const auto& name :
       {layer + "input_layernorm", layer + "post_attention_layernorm", std::string("model.norm")})
    tensors.push_back({name + ".weight", DType::kBF16, {kWidth}});
  std::vector<std::vector<uint16_t>> values;
  std::vector<std::span<const std::byte>> data;
  std::minstd_rand random(seed);
  for (const TensorInfo& t : tensors) {
    auto& v = values.emplace_back(static_cast<size_t>(element_count(t.shape)), uint16_t{0x3f80});
    for (uint16_t& x : v) {
      if (t.shape.size() == 2) x = static_cast<uint16_t>(0x3c80 | (random() & 0x807f));
    }
    data.push_back(std::as_bytes(std::span(v)));
  }
  write_safetensors(folder / "model.safetensors", tensors, data, {});
}

// The embedding is merged whole, from all models: far more than a block takes.
TEST_F(Memory, OfALargeEmbeddingCounts) {
  std::ofstream ids(dir_.path / "ids.jsonl");
  for (int i = 0; i < 8; ++i)
    ids << R"({"ids": [5, 17, 299999, 4]})"
        << "\n";
  ids.close();
  for (uint32_t m = 0; m < 3; ++m) write_model(dir_.path / fmt::format("m{}", m), m + 1);
  std::ofstream(recipe_) << fmt::format(
      "merge_method: linear\nmodels:\n- {{model: {0}/m1, parameters: {{weight: 1}}}}\n"
      "- {{model: {0}/m2, parameters: {{weight: 1}}}}\nbase_model: {0}/m0\ndtype: "
      "bfloat16\nlewis:\n"
      "  calibration:\n  - {{model: {0}/m1, data: {0}/ids.jsonl, format: ids}}\n"
      "  - {{model: {0}/m2, data: {0}/ids.jsonl, format: ids}}\n  allocation: none\n  refine: "
      "{{}}\n",
      dir_.path.string());
  const Json cost = json("merge " + recipe_ + " " + out() + " --dry-run")["refinement"];
  EXPECT_LE(peak_of("merge " + recipe_ + " " + out()), cost["peak_memory"].get<uint64_t>());
}

}  // namespace
}  // namespace lewis
