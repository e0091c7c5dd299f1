// Models as recipes name them: with an adapter, with float8 weights.
#include "merge/input_model.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "base/json.h"
#include "io/checkpoint.h"
#include "merge/engine.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

const fs::path kAdapters = LEWIS_TEST_DATA "/golden/adapters";

void write_model(const fs::path& folder, const std::vector<TensorInfo>& tensors,
                 const std::vector<std::vector<std::byte>>& values, const std::string& config) {
  std::vector<std::span<const std::byte>> data(values.begin(), values.end());
  fs::create_directories(folder);
  write_safetensors(folder / "model.safetensors", tensors, data, {});
  std::ofstream(folder / "config.json") << config;
}

// passthrough of MODEL+ADAPTER is what PEFT merges and saves.
TEST(InputModels, AnAdapterIsAppliedOnTheWay) {
  const TempDir dir;
  const Recipe recipe = parse_recipe(
      "merge_method: passthrough\nmodels:\n- model: llama+llama_lora\n", kAdapters / "r.yml");
  Threads threads(2);
  merge(recipe, {.out = dir.path / "out"}, threads);
  const Checkpoint out = Checkpoint::open(dir.path / "out");
  const SafetensorsFile peft(kAdapters / "llama_lora/merged.safetensors");
  const Checkpoint base = Checkpoint::open(kAdapters / "llama");
  size_t changed = 0;
  for (const auto& entry : peft.entries()) {
    const auto ours = out.read_floats(out.get(entry.info.name));
    std::vector<float> theirs(ours.size());
    peft.read(entry, 0, std::as_writable_bytes(std::span(theirs)));
    for (size_t i = 0; i < ours.size(); ++i) EXPECT_NEAR(ours[i], theirs[i], 1e-6);
    changed += ours != base.read_floats(base.get(entry.info.name));
  }
  EXPECT_GT(changed, 3u);
}

TEST(InputModels, TheFingerprintKnowsTheAdapter) {
  const TempDir dir;
  fs::copy(kAdapters / "llama_lora", dir.path / "lora");
  RecipeModel plain, adapted;
  plain.folder = adapted.folder = kAdapters / "llama";
  adapted.adapter = dir.path / "lora";
  const InputModel model = open_input(adapted, {});
  const std::string before = model.fingerprint();
  EXPECT_NE(before, open_input(plain, {}).fingerprint());
  EXPECT_EQ(before, open_input(adapted, {}).fingerprint());
  std::ofstream(dir.path / "lora/adapter_config.json", std::ios::app) << "\n";
  EXPECT_NE(before, model.fingerprint());
}

// A float8 expert is merged with a bf16 one, and what is written no longer says float8.
TEST(InputModels, Float8BecomesPlain) {
  const TempDir dir;
  const std::byte one{0x38}, two{0x40};  // E4M3: 1 and 2
  const float scale = 0.5;
  std::vector<std::byte> scale_bytes(4);
  std::memcpy(scale_bytes.data(), &scale, 4);
  write_model(
      dir.path / "fp8",
      {{"model.x.weight", DType::kF8E4M3, {1, 2}}, {"model.x.weight_scale", DType::kF32, {1}}},
      {{one, two}, scale_bytes},
      R"({"dtype": "bfloat16", "quantization_config": {"quant_method": "fp8"}})");
  const uint16_t values[] = {float_to_bf16(1.5f), float_to_bf16(3)};
  const auto bytes = std::as_bytes(std::span(values));
  write_model(dir.path / "bf16", {{"model.x.weight", DType::kBF16, {1, 2}}},
              {{bytes.begin(), bytes.end()}}, R"({"dtype": "bfloat16"})");
  const Recipe recipe = parse_recipe(
      "merge_method: linear\nmodels:\n- model: fp8\n  parameters: {weight: 1}\n- model: bf16\n  "
      "parameters: {weight: 1}\n",
      dir.path / "r.yml");
  Threads threads(1);
  const MergeReport report = merge(recipe, {.out = dir.path / "out"}, threads);
  EXPECT_EQ(report.bytes_read, 2u + 4u + 4u);  // codes, a scale, and bf16
  const Checkpoint out = Checkpoint::open(dir.path / "out");
  ASSERT_EQ(out.tensors().size(), 1u);
  EXPECT_EQ(out.read_floats(out.tensors()[0]), (std::vector<float>{1, 2}));
  EXPECT_FALSE(out.config().contains("quantization_config"));
}

}  // namespace
}  // namespace lewis
