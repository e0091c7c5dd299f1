// The spellings of tensor names and the buffers that are no weights.
#include "io/tensor_names.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace lewis {
namespace {

class Names final : public TensorSource {
 public:
  explicit Names(const std::vector<std::string>& names) {
    for (const std::string& name : names) tensors_.push_back({name, DType::kF32, {1}});
    std::ranges::sort(tensors_, {}, &TensorInfo::name);
  }
  const std::string& label() const override { return label_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void read(const TensorInfo&, int64_t, std::span<std::byte>) const override {}

 private:
  std::string label_ = "names";
  std::vector<TensorInfo> tensors_;
};

// Each line: how several versions of transformers, and the programs around it, call one tensor.
TEST(TensorNames, SpellingsOfOneTensorAreFound) {
  const std::vector<std::vector<std::string>> spellings = {
      {"language_model.model.layers.0.mlp.up_proj.weight",
       "model.language_model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight",
       "layers.0.mlp.up_proj.weight", "model._orig_mod.layers.0.mlp.up_proj.weight",
       "_orig_mod.model.layers.0.mlp.up_proj.weight", "module.model.layers.0.mlp.up_proj.weight",
       "base_model.model.model.layers.0.mlp.up_proj.weight",
       "model.layers.0._checkpoint_wrapped_module.mlp.up_proj.weight",
       "_fsdp_wrapped_module.model.layers.0._fsdp_wrapped_module.mlp.up_proj.weight"},
      {"language_model.lm_head.weight", "lm_head.weight", "_orig_mod.lm_head.weight"},
      {"vision_tower.vision_model.encoder.layers.1.mlp.fc1.weight",
       "model.vision_tower.vision_model.encoder.layers.1.mlp.fc1.weight",
       "model.vision_tower.encoder.layers.1.mlp.fc1.weight"},
      {"multi_modal_projector.linear_1.weight", "model.multi_modal_projector.linear_1.weight"},
      {"visual.blocks.0.attn.qkv.weight", "model.visual.blocks.0.attn.qkv.weight"},
      {"image_newline", "model.image_newline"},
      {"h.3.attn.c_attn.weight", "transformer.h.3.attn.c_attn.weight"},
      {"encoder.layer.0.attention.output.LayerNorm.weight",
       "bert.encoder.layer.0.attention.output.LayerNorm.weight",
       "bert.encoder.layer.0.attention.output.LayerNorm.gamma",
       "roberta.encoder.layer.0.attention.output.LayerNorm.weight"},
      {"model.layers.0.block_sparse_moe.gate.weight", "model.layers.0.mlp.gate.weight"}};
  for (const auto& names : spellings) {
    for (const std::string& stored : names) {
      const Names source({stored, "score.weight"});
      const NameIndex index(source);
      for (const std::string& asked : names) {
        const TensorInfo* found = index.find(asked);
        ASSERT_NE(found, nullptr) << stored << " asked as " << asked;
        EXPECT_EQ(found->name, stored);
      }
      EXPECT_EQ(index.find("model.layers.1.mlp.up_proj.weight"), nullptr);
    }
  }
}

// An encoder and a decoder, a text and a vision tower are different things.
TEST(TensorNames, DifferentTensorsStayDifferent) {
  for (const auto& [a, b] : std::vector<std::pair<std::string, std::string>>{
           {"encoder.block.0.layer.0.x", "decoder.block.0.layer.0.x"},
           {"text_model.encoder.layers.0.x", "vision_model.encoder.layers.0.x"},
           {"model.layers.0.x", "model.layers.1.x"},
           {"model.layers.0.x", "model.visual.layers.0.x"},
           {"model.layers.0.x", "mtp.layers.0.x"},
           {"model.layers.0.mlp.gate.weight", "model.layers.0.mlp.gate_proj.weight"}}) {
    EXPECT_NE(canonical_name(a), canonical_name(b)) << a << " and " << b;
  }
}

TEST(TensorNames, WhatTwoTensorsCouldMeanIsNotFound) {
  const Names source({"model.layers.0.x", "transformer.layers.0.x"});
  EXPECT_EQ(NameIndex(source).find("layers.0.x"), nullptr);
  EXPECT_NE(NameIndex(source).find("model.layers.0.x"), nullptr);
}

TEST(TensorNames, Buffers) {
  const auto buffer = [](const std::string& name, const Shape& shape) {
    return is_buffer({name, DType::kF32, shape});
  };
  for (const char* name :
       {"model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq",
        "gpt_neox.layers.0.attention.masked_bias", "transformer.h.0.attn.masked_bias",
        "bert.embeddings.position_ids", "vision_model.embeddings.position_ids"}) {
    EXPECT_TRUE(buffer(name, {8})) << name;
  }
  EXPECT_TRUE(buffer("h.0.attn.bias", {1, 1, 16, 16}));
  EXPECT_TRUE(buffer("gpt_neox.layers.0.attention.bias", {1, 1, 16, 16}));
  // Weights of the same names.
  EXPECT_FALSE(buffer("visual.blocks.0.attn.bias", {16}));
  EXPECT_FALSE(buffer("h.0.attn.bias", {1, 1, 16, 8}));
  EXPECT_FALSE(buffer("h.0.attn.c_attn.bias", {48}));
  EXPECT_FALSE(buffer("embeddings.position_embeddings.weight", {16, 8}));
}

}  // namespace
}  // namespace lewis
