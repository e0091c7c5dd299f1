// Heads that config.json ties to the embeddings: stored as a copy, stored with other values, tied
// in some models only, changed by adapters.
#include <limits>

#include "small_models.h"

namespace lewis {
namespace {

const std::vector<float> kRows = {1, 2, 3, 4, 5, 6}, kOther = {1, 2, 3, 4, 5, 7};
const std::string kLinear =
    "merge_method: linear\nmodels:\n- model: a\n  parameters: {weight: 0.5}\n- model: b\n  "
    "parameters: {weight: 0.5}\n";
const float kNan = std::numeric_limits<float>::quiet_NaN();

class TiedHead : public SmallModels {
 protected:
  void write_model(const std::string& name, const Json& config, const std::vector<float>& embedding,
                   const std::vector<float>& head, DType head_type = DType::kF32,
                   const std::string& prefix = "model.") const {
    Values values = {{prefix + "embed_tokens.weight", embedding}, {prefix + "norm.weight", {1, 2}}};
    std::map<std::string, Shape> shapes = {{prefix + "embed_tokens.weight", {3, 2}}};
    std::map<std::string, DType> types;
    if (!head.empty()) {
      values["lm_head.weight"] = head;
      shapes["lm_head.weight"] = {3, 2};
      types["lm_head.weight"] = head_type;
    }
    write(name, values, config, shapes, types);
  }
};

const Json kText = {{"vocab_size", 3}};
Json with(Json config, const Json& more) {
  config.update(more);
  return config;
}
const std::vector<Json> kTiedConfigs = {
    with(kText, {{"model_type", "llama"}, {"tie_word_embeddings", true}}),
    with(kText, {{"model_type", "gemma2"}}),
    with(kText, {{"model_type", "cohere"}}),
    with(kText, {{"model_type", "starcoder2"}}),
    {{"model_type", "gemma3"}, {"text_config", with(kText, {{"model_type", "gemma3_text"}})}},
    {{"model_type", "llava"},
     {"text_config", with(kText, {{"model_type", "qwen2"}, {"tie_word_embeddings", true}})}},
    {{"model_type", "llava"}, {"tie_word_embeddings", true}, {"text_config", kText}}};

TEST_F(TiedHead, AnEqualCopyIsLeftOut) {
  for (const Json& config : kTiedConfigs) {
    write_model("a", config, kRows, {});
    for (const DType type : {DType::kF32, DType::kBF16}) {
      write_model("b", config, kRows, kRows, type);
      EXPECT_FALSE(merged(kLinear).contains("lm_head.weight")) << config.dump();
      EXPECT_TRUE(has_note("one tensor here"));
      EXPECT_EQ(config_, config);
    }
  }
}

TEST_F(TiedHead, OtherValuesAreAHeadOfTheirOwn) {
  for (const Json& config : kTiedConfigs) {
    write_model("a", config, kRows, kRows);
    write_model("b", config, kRows, kOther);
    const Values all = merged(kLinear);
    ASSERT_TRUE(all.contains("lm_head.weight")) << config.dump();
    EXPECT_EQ(all.at("lm_head.weight"), (std::vector<float>{1, 2, 3, 4, 5, 6.5}));
    EXPECT_EQ(all.at("model.embed_tokens.weight"), kRows);
    EXPECT_TRUE(has_note("with different values"));
    EXPECT_TRUE(has_note("its embeddings are its head"));
    EXPECT_EQ(config_.value("tie_word_embeddings", Json()), false);
    if (config.contains("text_config")) {
      EXPECT_EQ(config_["text_config"].value("tie_word_embeddings", Json()), false);
    }
  }
}

// An untied model keeps its head, even an equal one.
TEST_F(TiedHead, WhatIsNotTiedStaysTwo) {
  for (const Json& config :
       {with(kText, {{"model_type", "llama"}}), with(kText, {{"model_type", "of_tomorrow"}}),
        with(kText, {{"model_type", "gemma2"}, {"tie_word_embeddings", false}})}) {
    write_model("a", config, kRows, kRows);
    write_model("b", config, kRows, kRows);
    EXPECT_TRUE(merged(kLinear).contains("lm_head.weight")) << config.dump();
    EXPECT_EQ(config_, config);
    EXPECT_FALSE(has_note("head"));
  }
}

// In whichever model the head is, and wherever the result's config.json comes from.
TEST_F(TiedHead, OneModelWithAHeadGivesTheResultOne) {
  const Json tied = kTiedConfigs[1], untied = with(tied, {{"tie_word_embeddings", false}});
  const std::vector<float> mean = {1, 2, 3, 4, 5, 6.5};
  for (const bool first : {true, false}) {
    write_model("a", first ? untied : tied, kRows, first ? kOther : std::vector<float>());
    write_model("b", first ? tied : untied, kRows, first ? std::vector<float>() : kOther);
    const Values all = merged(kLinear);
    EXPECT_EQ(all.at("lm_head.weight"), mean);
    EXPECT_EQ(config_.at("tie_word_embeddings"), false);
    EXPECT_TRUE(has_note("has no lm_head.weight: its embeddings are its head"));
    // A task vector of a head is counted from the embeddings of a tied base.
    const std::string ties = fmt::format(
        "merge_method: task_arithmetic\nbase_model: {}\nmodels:\n- model: {}\n  parameters: "
        "{{weight: 2}}\n",
        first ? "b" : "a", first ? "a" : "b");
    EXPECT_EQ(merged(ties).at("lm_head.weight"), (std::vector<float>{1, 2, 3, 4, 5, 8}));
  }
}

TEST_F(TiedHead, NotANumberEqualsItself) {
  std::vector<float> broken = kRows;
  broken[3] = kNan;
  const std::string copy = "merge_method: passthrough\nmodels:\n- model: a\n";
  write_model("a", kTiedConfigs[0], broken, broken);
  try {
    EXPECT_FALSE(merged(copy).contains("lm_head.weight"));
  } catch (const Error& e) {  // the embeddings themselves may be refused
    EXPECT_NE(std::string(e.what()).find("embed_tokens"), std::string::npos) << e.what();
  }
  write_model("a", kTiedConfigs[0], kRows, broken);
  expect_refused(kLinear.substr(0, kLinear.find("- model: b")), ExitCode::kInput, "lm_head.weight");
}

// ---- adapters of tied models ----

const std::string kBaked = "merge_method: passthrough\nmodels:\n- model: a+lora\n";

TEST_F(TiedHead, AnAdapterMayHoldEmbeddingsAndHead) {
  write_model("a", kTiedConfigs[0], kRows, {});
  const std::string in = "base_model.model.model.embed_tokens.weight",
                    head = "base_model.model.lm_head.weight";
  const std::map<std::string, Shape> shapes = {{in, {3, 2}}, {head, {3, 2}}};
  write_adapter("lora", {{in, kOther}, {head, kOther}}, shapes);
  Values all = merged(kBaked);
  EXPECT_EQ(all.at("model.embed_tokens.weight"), kOther);
  EXPECT_FALSE(all.contains("lm_head.weight"));
  EXPECT_EQ(config_, kTiedConfigs[0]);

  write_adapter("lora", {{in, kOther}, {head, kRows}}, shapes);
  all = merged(kBaked);
  EXPECT_EQ(all.at("model.embed_tokens.weight"), kOther);
  EXPECT_EQ(all.at("lm_head.weight"), kRows);
  EXPECT_EQ(config_.at("tie_word_embeddings"), false);
  EXPECT_TRUE(has_note("head and embeddings are two tensors here"));

  write_adapter("lora", {{head, kOther}}, shapes);
  all = merged(kBaked);
  EXPECT_EQ(all.at("model.embed_tokens.weight"), kRows);
  EXPECT_EQ(all.at("lm_head.weight"), kOther);

  write_adapter("lora", {{in, kOther}}, shapes, {{"ensure_weight_tying", true}});
  all = merged(kBaked);
  EXPECT_EQ(all.at("model.embed_tokens.weight"), kOther);
  EXPECT_FALSE(all.contains("lm_head.weight"));
}

TEST_F(TiedHead, LowRankChangesOfTheHeadAloneLeaveTheEmbeddings) {
  write_model("a", kTiedConfigs[1], kRows, {});
  const std::string m = "base_model.model.lm_head.";
  write_adapter("lora", {{m + "lora_A.weight", {1, 10}}, {m + "lora_B.weight", {0, 1, 2}}},
                {{m + "lora_A.weight", {1, 2}}, {m + "lora_B.weight", {3, 1}}});
  const Values all = merged(kBaked);
  EXPECT_EQ(all.at("model.embed_tokens.weight"), kRows);
  EXPECT_EQ(all.at("lm_head.weight"), (std::vector<float>{1, 2, 4, 14, 7, 26}));
  EXPECT_EQ(config_.at("tie_word_embeddings"), false);
}

// ---- adapters with a longer vocabulary ----

TEST_F(TiedHead, AnAdapterMayAddRows) {
  write_model("a", kTiedConfigs[0], kRows, {});
  const std::string in = "base_model.model.model.embed_tokens.weight",
                    head = "base_model.model.lm_head.weight";
  const std::vector<float> more = {1, 2, 3, 4, 5, 6, 7, 8};
  write_adapter("lora", {{in, more}, {head, more}}, {{in, {4, 2}}, {head, {4, 2}}});
  std::ofstream(dir_.path / "lora/tokenizer.json") << "{\"its\": \"own\"}";
  const Values all = merged(kBaked);
  EXPECT_EQ(all.at("model.embed_tokens.weight"), more);
  EXPECT_FALSE(all.contains("lm_head.weight"));
  EXPECT_EQ(config_.at("vocab_size"), 4);
  EXPECT_EQ(read_text_file(dir_.path / fmt::format("out{}", runs_) / "tokenizer.json"),
            "{\"its\": \"own\"}");
  EXPECT_TRUE(has_note("4 rows"));
  // Beside a model with the old vocabulary, the rule is that of models.
  write_model("b", kTiedConfigs[0], kRows, {});
  expect_refused(
      "merge_method: linear\nparameters: {weight: 1}\nmodels:\n- model: a+lora\n- model: b\n",
      ExitCode::kInput, "tokenizer_source: union");
  // An untied head must be enlarged as well.
  write_model("a", with(kText, {{"model_type", "llama"}}), kRows, kOther);
  write_adapter("lora", {{in, more}}, {{in, {4, 2}}});
  expect_refused(kBaked, ExitCode::kInput, "save_embedding_layers");
}

}  // namespace
}  // namespace lewis
