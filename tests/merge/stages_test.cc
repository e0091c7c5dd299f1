// A recipe merged on demand against the same merge on disk; models of several modules.
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "base/json.h"
#include "base/text_file.h"
#include "golden_file.h"
#include "io/checkpoint.h"
#include "merge/engine.h"
#include "merge/inputs.h"
#include "merge/modules.h"
#include "merge/sources/merged_source.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

std::map<std::string, std::vector<std::byte>> bytes_of(const TensorSource& source) {
  std::map<std::string, std::vector<std::byte>> all;
  for (const TensorInfo& t : source.tensors()) {
    auto& bytes = all[t.name];
    bytes.resize(byte_size(t));
    source.read(t, 0, bytes);
  }
  return all;
}

class Stages : public testing::Test {
 protected:
  Stages() {
    for (const char* name : {"base", "math", "code"})
      fs::copy(std::string(LEWIS_DEMO "/models/") + name, dir_.path / name,
               fs::copy_options::recursive);
  }
  Recipe parse(const std::string& text) const { return parse_recipe(text, dir_.path / "r.yml"); }
  void merge_to(const std::string& text, const std::string& out, size_t thread_count = 2) const {
    Threads threads(thread_count);
    merge(parse(text), {.out = dir_.path / out, .force = true, .seed = 7}, threads);
  }

  TempDir dir_;
};

const std::string kLeft =
    "merge_method: dare_ties\nbase_model: base\nmodels:\n- model: math\n  parameters: {weight: 1, "
    "density: 0.4}\n- model: code\n  parameters: {weight: 0.5, density: 0.6}\ndtype: bfloat16\n";
const std::string kLast =
    "merge_method: ties\nbase_model: base\nmodels:\n- model: left\n  parameters: {weight: 1, "
    "density: 0.3}\n- model: code\n  parameters: {weight: 1, density: 0.5}\ndtype: float32\n";

// Stages are never written to the disk; the result is that of merges through the disk.
TEST_F(Stages, EqualMergesThroughTheDisk) {
  merge_to(kLeft, "left");
  merge_to(kLast, "through_disk");
  fs::remove_all(dir_.path / "left");
  const std::string staged = "name: left\n" + kLeft + "---\n" + kLast;
  for (const size_t threads : {1, 3}) {
    merge_to(staged, "staged", threads);
    EXPECT_EQ(bytes_of(Checkpoint::open(dir_.path / "staged")),
              bytes_of(Checkpoint::open(dir_.path / "through_disk")));
    EXPECT_EQ(file_text(dir_.path / "staged/config.json"),
              file_text(dir_.path / "through_disk/config.json"));
  }
  EXPECT_EQ(file_text(dir_.path / "staged/mergekit_config.yml"), staged);
  const std::string card = file_text(dir_.path / "staged/README.md");
  EXPECT_EQ(card.find("- \"left\""), std::string::npos) << "a stage is no model of the hub";
  EXPECT_NE(card.find("- \"math\""), std::string::npos);
}

TEST_F(Stages, AStageMayBeStacked) {
  const std::string stack =
      "name: tall\nmerge_method: passthrough\nslices:\n- sources:\n  - {model: math, layer_range: "
      "[0, 4]}\n- sources:\n  - {model: code, layer_range: [2, 8]}\n---\n"
      "merge_method: linear\nmodels:\n- model: tall\n  parameters: {weight: 1}\n";
  merge_to(stack, "out");
  const Checkpoint out = Checkpoint::open(dir_.path / "out");
  EXPECT_EQ(out.config().at("num_hidden_layers"), 10);
  const auto merged = bytes_of(out), math = bytes_of(Checkpoint::open(dir_.path / "math")),
             code = bytes_of(Checkpoint::open(dir_.path / "code"));
  EXPECT_EQ(merged.at("model.layers.3.mlp.up_proj.weight"),
            math.at("model.layers.3.mlp.up_proj.weight"));
  EXPECT_EQ(merged.at("model.layers.9.mlp.up_proj.weight"),
            code.at("model.layers.7.mlp.up_proj.weight"));
}

TEST_F(Stages, AreReadInPiecesAndCounted) {
  merge_to(kLeft, "left");
  const InputModel stage = open_stage(parse(kLeft), {.seed = 7, .threads = 2});
  const Checkpoint disk = Checkpoint::open(dir_.path / "left");
  EXPECT_EQ(stage.source->tensors(), disk.tensors());
  for (const TensorInfo& t : stage.source->tensors()) {
    const int64_t first = element_count(t.shape) / 3;
    std::vector<std::byte> a(static_cast<size_t>(element_count(t.shape) - first) *
                             dtype_size(t.dtype)),
        b(a.size());
    stage.source->read(t, first, a);
    disk.read(t, first, b);
    EXPECT_EQ(a, b) << t.name;
    EXPECT_EQ(stage.source->read_cost(t).disk_bytes, 3 * byte_size(t));
  }
  EXPECT_EQ(stage.fingerprint(), open_stage(parse(kLeft), {.seed = 7}).fingerprint());
  EXPECT_NE(stage.fingerprint(), open_stage(parse(kLeft), {.seed = 8}).fingerprint());
}

// Who runs a model asks for its tensors time and again: some stay, whatever the room.
TEST_F(Stages, GiveTheSameEachTime) {
  const InputModel fresh = open_stage(parse(kLeft), {.threads = 2});
  const InputModel kept = open_stage(parse(kLeft), {.threads = 2, .keep_bytes = 600'000});
  for (int pass = 0; pass < 2; ++pass) {
    for (const TensorInfo& t : fresh.source->tensors())
      EXPECT_EQ(fresh.source->read_floats(t), kept.source->read_floats(t)) << t.name;
  }
}

TEST(Modules, NamesTellThem) {
  const std::vector<std::string> modules = {"text_decoder", "vision_tower", "projector"};
  EXPECT_EQ(module_of("language_model.model.layers.0.mlp.up_proj.weight", modules), 0u);
  EXPECT_EQ(module_of("model.visual.blocks.3.attn.qkv.weight", modules), 1u);
  EXPECT_EQ(module_of("vision_tower.layers.0.projector.weight", modules), 1u);
  EXPECT_EQ(module_of("projector.weight", modules), 2u);
  EXPECT_EQ(module_of("model.layers.0.projector.weight", modules), 0u)
      << "a part inside a layer tells nothing";
  EXPECT_EQ(module_of("model.norm.weight", std::vector<std::string>{"vision_tower"}), std::nullopt);
}

// A language model of two layers and a vision tower of one, in float32.
void write_multimodal(const fs::path& folder, float value) {
  const std::vector<std::string> names = {
      "language_model.model.embed_tokens.weight",     "language_model.model.layers.0.up.weight",
      "language_model.model.layers.1.up.weight",      "language_model.model.norm.weight",
      "vision_tower.encoder.layers.0.mlp.fc1.weight", "multi_modal_projector.weight"};
  std::vector<TensorInfo> tensors;
  std::vector<std::vector<float>> values;
  for (size_t i = 0; i < names.size(); ++i) {
    tensors.push_back({names[i], DType::kF32, {2, 3}});
    values.emplace_back(6, value + static_cast<float>(i));
  }
  std::vector<std::span<const std::byte>> data;
  for (const auto& v : values) data.push_back(std::as_bytes(std::span(v)));
  fs::create_directories(folder);
  write_safetensors(folder / "model.safetensors", tensors, data, {});
  std::ofstream(folder / "config.json")
      << R"({"text_config": {"num_hidden_layers": 2}, "vision_config": {}})";
}

TEST(Modules, EachHasItsOwnMerge) {
  const TempDir dir;
  write_multimodal(dir.path / "a", 1);
  write_multimodal(dir.path / "b", 5);
  const std::string text =
      "merge_method: linear\nmodules:\n"
      "  text_decoder:\n    slices:\n"
      "    - sources:\n      - {model: a, layer_range: [0, 2], parameters: {weight: 1}}\n"
      "    - sources:\n      - {model: b, layer_range: [1, 2], parameters: {weight: 1}}\n"
      "  vision_tower:\n    models:\n    - model: a\n      parameters: {weight: 1}\n"
      "    - model: b\n      parameters: {weight: 3}\n";
  const auto attempt = [&](const std::string& recipe) {
    Threads threads(2);
    merge(parse_recipe(recipe, dir.path / "r.yml"), {.out = dir.path / "out"}, threads);
  };
  std::string no_home = text;
  no_home.replace(no_home.find("text_decoder"), 12, "language_model");
  EXPECT_THROW(attempt(no_home), Error) << "the projector belongs to no module";
  attempt(text +
          "  multi_modal_projector:\n    models:\n    - model: b\n      parameters: {weight: "
          "1}\n");
  const Checkpoint out = Checkpoint::open(dir.path / "out");
  const auto first = [&](const char* name) { return out.read_floats(out.get(name))[0]; };
  EXPECT_EQ(out.tensors().size(), 7u);
  EXPECT_EQ(first("language_model.model.layers.1.up.weight"), 3);
  EXPECT_EQ(first("language_model.model.layers.2.up.weight"), 7);
  EXPECT_EQ(first("vision_tower.encoder.layers.0.mlp.fc1.weight"), (5 + 3 * 9) / 4.0f);
  EXPECT_EQ(first("multi_modal_projector.weight"), 10);
  EXPECT_EQ(out.config().at("text_config").at("num_hidden_layers"), 3);
}

}  // namespace
}  // namespace lewis
