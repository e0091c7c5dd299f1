// Layers are counted per stack, by the structure of names.
#include "recipe/layer_stacks.h"

#include <gtest/gtest.h>

#include <vector>

namespace lewis {
namespace {

LayerStacks stacks_of(const std::vector<std::pair<std::string, int>>& stacks) {
  LayerStacks all;
  all.add("model.embed_tokens.weight");
  for (const auto& [prefix, layers] : stacks) {
    for (int i = 0; i < layers; ++i) all.add(prefix + std::to_string(i) + ".mlp.fc1.weight");
  }
  return all;
}

struct Member {
  std::string what;
  std::vector<std::pair<std::string, int>> stacks;  // prefix, layers; the text model's first
};

class ManyStacks : public testing::TestWithParam<Member> {};
INSTANTIATE_TEST_SUITE_P(
    Layers, ManyStacks,
    testing::Values(
        Member{"llava",
               {{"language_model.model.layers.", 3},
                {"vision_tower.vision_model.encoder.layers.", 5}}},
        Member{"qwen_vl", {{"model.layers.", 3}, {"visual.blocks.", 7}, {"visual.merger.mlp.", 3}}},
        Member{"transformers_5",
               {{"model.language_model.layers.", 4}, {"model.visual.blocks.", 2}}},
        Member{"prediction_head", {{"model.layers.", 6}, {"mtp.layers.", 1}}},
        Member{"encoder_decoder", {{"decoder.block.", 2}, {"encoder.block.", 9}}},
        Member{"audio", {{"thinker.model.layers.", 3}, {"thinker.audio_tower.layers.", 32}}}),
    [](const auto& test) { return test.param.what; });

TEST_P(ManyStacks, EachGoesFrom0To1) {
  const LayerStacks stacks = stacks_of(GetParam().stacks);
  EXPECT_EQ(stacks.stacks().size(), GetParam().stacks.size());
  for (const auto& [prefix, layers] : GetParam().stacks) {
    EXPECT_EQ(stacks.layers(prefix), layers);
    for (int i = 0; i < layers; ++i) {
      const double expected = layers == 1 ? 1.0 : static_cast<double>(i) / (layers - 1);
      EXPECT_EQ(stacks.depth(prefix + std::to_string(i) + ".x.weight"), expected) << prefix << i;
    }
  }
  EXPECT_EQ(stacks.depth("model.embed_tokens.weight"), 0);
}

// Heads that predict further tokens lie behind the layers under the same prefix.
TEST(Layers, PredictionHeadsBehindTheLayersAreAStackOfTheirOwn) {
  LayerStacks stacks = stacks_of({{"model.layers.", 4}, {"vision.layers.", 4}});
  stacks.split_off(3, 1);
  EXPECT_EQ(stacks.depth("model.layers.1.x"), 0.5);
  EXPECT_EQ(stacks.depth("model.layers.2.x"), 1);
  EXPECT_EQ(stacks.depth("model.layers.3.x"), 1);
  LayerStacks without = stacks_of({{"model.layers.", 3}});  // the file has no such head
  without.split_off(3, 1);
  EXPECT_EQ(without.depth("model.layers.1.x"), 0.5);
}

TEST(Layers, ANameIsSplitAtItsFirstNumber) {
  const LayerName name = split_layer("model.layers.11.mlp.experts.3.w1.weight");
  EXPECT_EQ(name.prefix, "model.layers.");
  EXPECT_EQ(name.layer, 11);
  EXPECT_EQ(name.rest, ".mlp.experts.3.w1.weight");
  EXPECT_EQ(split_layer("lm_head.weight").layer, std::nullopt);
}

}  // namespace
}  // namespace lewis
