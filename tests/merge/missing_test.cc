// Tensors that the base has and fine-tuned models lack, and the reverse: the key `missing:`, and
// the parts that programs need not load.
#include "small_models.h"

namespace lewis {
namespace {

const std::string kTask =
    "merge_method: task_arithmetic\nbase_model: base\nparameters: {weight: 0.5}\n"
    "models:\n- model: math\n- model: code\n";

class MissingTensors : public SmallModels {
 protected:
  // A base with one tensor more, and two models of which `owner` ("" : none) has it, too.
  void write_models(const std::string& tensor, const Json& base, const Json& tuned,
                    const std::string& owner = "") {
    const std::string kept = "model.layers.0.mlp.up_proj.weight";
    write("base", {{kept, {1, 2}}, {tensor, {5, 6}}}, base);
    for (const std::string model : {"math", "code"}) {
      Values values = {{kept, {3, 2}}};
      if (owner == model) values[tensor] = {7, 6};
      write(model, values, tuned);
    }
  }
};

struct Extra {
  std::string what, tensor;
  Json base, tuned;
  std::string words;  // of the note
};

class ExtraParts : public MissingTensors, public testing::WithParamInterface<Extra> {};
INSTANTIATE_TEST_SUITE_P(
    All, ExtraParts,
    testing::Values(
        Extra{"qwen3_5",
              "mtp.layers.0.mlp.up_proj.weight",
              {{"model_type", "qwen3_5"}, {"text_config", {{"mtp_num_hidden_layers", 1}}}},
              {{"model_type", "qwen3_5"}},
              "multi-token prediction (mtp)"},
        Extra{"deepseek",
              "model.layers.1.eh_proj.weight",
              {{"model_type", "deepseek_v3"},
               {"num_hidden_layers", 1},
               {"num_nextn_predict_layers", 1}},
              {{"model_type", "deepseek_v3"}, {"num_hidden_layers", 1}},
              "layers behind the 1 that config.json counts"},
        Extra{"glm4_moe",
              "model.layers.1.shared_head.norm.weight",
              {{"model_type", "glm4_moe"}, {"num_hidden_layers", 1}, {"num_mtp_layers", 1}},
              {{"model_type", "glm4_moe"}, {"num_hidden_layers", 1}, {"num_mtp_layers", 1}},
              "transformers drops them on load for model_type 'glm4_moe'"},
        Extra{"inside_of_the_model",
              "model.mtp.0.norm.weight",
              {{"model_type", "longcat_flash"}},
              {{"model_type", "longcat_flash"}},
              "multi-token prediction (mtp)"},
        Extra{"nemotron",
              "mtp.layers.0.norm.weight",
              {{"model_type", "nemotron_h"}},
              {{"model_type", "nemotron_h"}},
              "for model_type 'nemotron_h'"},
        Extra{"tower",
              "model.visual.blocks.0.norm.weight",
              {{"model_type", "qwen3_5"}, {"vision_config", {{"depth", 1}}}},
              {{"model_type", "qwen3_5_text"}},
              "config.json has no vision_config"},
        Extra{"text_class",
              "model.visual.blocks.0.norm.weight",
              {{"model_type", "qwen3_5"}, {"vision_config", {{"depth", 1}}}},
              {{"model_type", "qwen3_5"},
               {"architectures", {"Qwen3_5ForCausalLM"}},
               {"vision_config", {{"depth", 1}}}},
              "config.json names Qwen3_5ForCausalLM"},
        Extra{
            "gemma4",
            "model.layers.0.self_attn.k_proj.weight",
            {{"model_type", "gemma4_text"}, {"num_hidden_layers", 1}, {"num_kv_shared_layers", 1}},
            {{"model_type", "gemma4_text"}, {"num_hidden_layers", 1}, {"num_kv_shared_layers", 1}},
            "transformers drops them on load (num_kv_shared_layers = 1)"},
        Extra{"gemma4_that_sees",
              "model.language_model.layers.1.self_attn.v_norm.weight",
              {{"model_type", "gemma4"},
               {"text_config",
                {{"model_type", "gemma4_text"},
                 {"num_hidden_layers", 2},
                 {"num_kv_shared_layers", 1}}}},
              {{"model_type", "gemma4"},
               {"text_config",
                {{"model_type", "gemma4_text"},
                 {"num_hidden_layers", 2},
                 {"num_kv_shared_layers", 1}}}},
              "keys and values of layers that read those of earlier ones"},
        Extra{"projector",
              "multi_modal_projector.linear.weight",
              {{"model_type", "mistral3"}, {"vision_config", {{"depth", 1}}}},
              {{"model_type", "ministral3"}},
              "the part multi_modal_projector"}),
    [](const auto& test) { return test.param.what; });

TEST_P(ExtraParts, ComeFromTheBase) {
  const Extra& extra = GetParam();
  write_models(extra.tensor, extra.base, extra.tuned);
  const Values out = merged(kTask);
  EXPECT_EQ(out.at(extra.tensor), (std::vector<float>{5, 6}));
  EXPECT_EQ(out.at("model.layers.0.mlp.up_proj.weight"), (std::vector<float>{3, 2}));
  EXPECT_TRUE(has_note("1 tensor of")) << fmt::format("{}", fmt::join(report_.warnings, "\n"));
  EXPECT_TRUE(has_note(extra.words)) << fmt::format("{}", fmt::join(report_.warnings, "\n"));
  EXPECT_TRUE(has_note("/math, ")) << "one note for both models";
  EXPECT_EQ(config_, extra.base) << "what is there stays promised";
}

TEST_P(ExtraParts, AreRefusedOnRequest) {
  const Extra& extra = GetParam();
  write_models(extra.tensor, extra.base, extra.tuned);
  expect_refused(kTask + "missing: refuse\n", ExitCode::kInput, extra.tensor);
}

TEST_P(ExtraParts, OfAModelWithoutABaseAreRefused) {
  const Extra& extra = GetParam();
  write_models(extra.tensor, extra.base, extra.tuned);
  expect_refused(
      "merge_method: task_arithmetic\nbase_model: math\nparameters: {weight: 0.5}\nmodels:\n"
      "- model: base\n",
      ExitCode::kInput, extra.tensor);
}

// Layers that share nothing have keys and values of their own.
TEST_F(MissingTensors, KeysThatAreReadAreRefused) {
  const Json config = {
      {"model_type", "gemma4_text"}, {"num_hidden_layers", 2}, {"num_kv_shared_layers", 1}};
  write_models("model.layers.0.self_attn.k_proj.weight", config, config);
  expect_refused(kTask, ExitCode::kInput, "model.layers.0.self_attn.k_proj.weight");
  const Json other = {
      {"model_type", "gemma3_text"}, {"num_hidden_layers", 2}, {"num_kv_shared_layers", 2}};
  write_models("model.layers.0.self_attn.k_proj.weight", other, other);
  expect_refused(kTask, ExitCode::kInput, "model.layers.0.self_attn.k_proj.weight");
}

// transformers knows layer 61 of DeepSeek V3 by its number, and warns of others.
TEST_F(MissingTensors, LayersThatTransformersNamesAreNoted) {
  struct Member {
    std::string model_type;
    int64_t layers;
    bool named;
  };
  for (const auto& [model_type, layers, named] : std::vector<Member>{{"deepseek_v3", 1, true},
                                                                     {"deepseek_v3", 61, false},
                                                                     {"glm4_moe", 61, true},
                                                                     {"glm4_moe", 46, false},
                                                                     {"glm4_moe", 92, false},
                                                                     {"glm4_moe_lite", 92, true},
                                                                     {"nemotron_h", 3, false}}) {
    const Json config = {{"model_type", model_type}, {"num_hidden_layers", layers}};
    write_models(fmt::format("model.layers.{}.eh_proj.weight", layers), config, config);
    merged(kTask);
    EXPECT_EQ(has_note("names others as unexpected"), named) << model_type << " " << layers;
    EXPECT_EQ(has_note(fmt::format("(layer {})", layers)), named) << model_type << " " << layers;
  }
}

// Python writes an infinite number as a bare word. It stays one where config.json is written anew.
TEST_F(MissingTensors, BareWordsOfConfigJsonStay) {
  const Json config = {{"model_type", "nemotron_h"}, {"num_nextn_predict_layers", 1}};
  write_models("model.layers.0.mlp.down_proj.weight", config, config, "math");
  write("code", {{"model.layers.0.mlp.up_proj.weight", {3, 2}}}, config);
  const std::string text = R"({"model_type": "nemotron_h", "num_nextn_predict_layers": 1,
    "time_step_limit": [0.0, Infinity]})";
  std::ofstream(dir_.path / "base/config.json") << text;
  const Values out = merged(kTask + "missing: base\n");
  EXPECT_EQ(out.size(), 2u);
  const std::string written = read_text_file(dir_.path / "out1/config.json");
  EXPECT_NE(written.find("Infinity"), written.npos) << written;
  EXPECT_EQ(written.find("\"Infinity"), written.npos) << written;
  EXPECT_NE(written.find("\"num_nextn_predict_layers\": 0"), written.npos) << written;
}

TEST_F(MissingTensors, APartThatIsThereInPartIsRefused) {
  const Json config = {{"model_type", "qwen3_next"}};
  write("base", {{"a.weight", {1}}, {"mtp.fc.weight", {2}}, {"mtp.norm.weight", {3}}}, config);
  write("math", {{"a.weight", {1}}, {"mtp.fc.weight", {2}}}, config);
  const std::string text =
      "merge_method: task_arithmetic\nbase_model: base\nparameters: {weight: 1}\nmodels:\n"
      "- model: math\n";
  expect_refused(text, ExitCode::kInput, "tensor mtp.norm.weight is in ");
  EXPECT_EQ(merged(text + "missing: zero\n").at("mtp.norm.weight"), std::vector<float>{3});
}

TEST_F(MissingTensors, ATowerThatConfigPromisesIsRefused) {
  const Json config = {{"model_type", "qwen3_5"}, {"vision_config", {{"depth", 1}}}};
  write_models("model.visual.blocks.0.norm.weight", config, config);
  expect_refused(kTask, ExitCode::kInput, "model.visual.blocks.0.norm.weight");
}

TEST_F(MissingTensors, OthersAreRefusedAndNamed) {
  const Json config = {{"model_type", "llama"}};
  write_models("model.extra.weight", config, config);
  expect_refused(kTask, ExitCode::kInput, "tensor model.extra.weight is in ");
  expect_refused(kTask, ExitCode::kInput, "`missing: base` takes such tensors from ");
}

TEST_F(MissingTensors, RulesGoByTheName) {
  const Json config = {{"model_type", "llama"}};
  const std::string tensor = "model.extra.weight";
  write_models(tensor, config, config, "code");
  EXPECT_EQ(merged(kTask + "missing: base\n").at(tensor), (std::vector<float>{5, 6}));
  EXPECT_TRUE(has_note("the recipe's rule missing says base"));
  // code has (7, 6): half of its task vector is added.
  EXPECT_EQ(merged(kTask + "missing: zero\n").at(tensor), (std::vector<float>{6, 6}));
  EXPECT_EQ(merged(kTask + "missing:\n- {filter: extra, value: zero}\n- value: base\n").at(tensor),
            (std::vector<float>{6, 6}));
  expect_refused(kTask + "missing: {filter: mtp, value: zero}\n", ExitCode::kInput, tensor);
}

TEST_F(MissingTensors, MethodsWithoutABaseTakeTheFirstModels) {
  const Json config = {{"model_type", "nemotron_h"}};
  write_models("mtp.norm.weight", config, config);
  const std::string text =
      "merge_method: linear\nparameters: {weight: 0.5}\nmodels:\n- model: base\n- model: math\n";
  const Values out = merged(text);
  EXPECT_EQ(out.at("mtp.norm.weight"), (std::vector<float>{5, 6}));
  EXPECT_EQ(out.at("model.layers.0.mlp.up_proj.weight"), (std::vector<float>{2, 2}));
  EXPECT_EQ(merged(text + "missing: zero\n").at("mtp.norm.weight"), (std::vector<float>{5, 6}));
}

TEST_F(MissingTensors, WhatTheBaseLacksIsRefusedUnlessTold) {
  const Json config = {{"model_type", "llama"}};
  write("base", {{"a.weight", {1}}}, config);
  write("math", {{"a.weight", {2}}, {"b.weight", {3}}, {"c.weight", {3}}}, config);
  const std::string text =
      "merge_method: task_arithmetic\nbase_model: base\nparameters: {weight: 1}\nmodels:\n"
      "- model: math\n";
  expect_refused(text, ExitCode::kInput, "tensor b.weight is in ");
  expect_refused(text, ExitCode::kInput, "like 1 more (c.weight)");
  expect_refused(text + "missing: zero\n", ExitCode::kInput, "tensor b.weight is in ");
  EXPECT_EQ(merged(text + "missing: base\n"), (Values{{"a.weight", {2}}}));
  EXPECT_TRUE(has_note("2 tensors of "));
  EXPECT_TRUE(has_note("left out"));
}

// A base that was saved by a program that drops MTP layers, with a config.json that promises them.
TEST_F(MissingTensors, AConfigPromisesOnlyWhatIsThere) {
  for (const char* key : {"num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers"}) {
    const Json config = {{"model_type", "llama"}, {key, 2}};
    write("base", {{"a.weight", {1}}}, config);
    write("math", {{"a.weight", {2}}}, config);
    merged(
        "merge_method: linear\nparameters: {weight: 1}\nmodels:\n- model: base\n"
        "- model: math\n");
    EXPECT_EQ(config_[key], 0);
    EXPECT_TRUE(has_note(fmt::format("says {} = 2", key)));
  }
  const Json nested = {{"model_type", "qwen3_5"}, {"text_config", {{"mtp_num_hidden_layers", 1}}}};
  write("base", {{"a.weight", {1}}}, nested);
  write("math", {{"a.weight", {2}}}, nested);
  merged("merge_method: linear\nparameters: {weight: 1}\nmodels:\n- model: base\n- model: math\n");
  EXPECT_EQ(config_["text_config"]["mtp_num_hidden_layers"], 0);
}

TEST_F(MissingTensors, LayersBehindTheLastStayBehindAStack) {
  const Json config = {
      {"model_type", "deepseek_v3"}, {"num_hidden_layers", 2}, {"num_nextn_predict_layers", 1}};
  Values base, math;
  for (int layer = 0; layer < 3; ++layer) {
    const float v = static_cast<float>(layer);
    base[fmt::format("model.layers.{}.up.weight", layer)] = {v};
    if (layer < 2) math[fmt::format("model.layers.{}.up.weight", layer)] = {v + 2};
  }
  write("base", base, config);
  write("math", math, config);
  const std::string stack =
      "merge_method: linear\nparameters: {weight: 0.5}\nslices:\n"
      "- sources: [{model: base, layer_range: [0, 2]}, {model: math, layer_range: [0, 2]}]\n"
      "- sources: [{model: base, layer_range: [1, 2]}, {model: math, layer_range: [1, 2]}]\n";
  EXPECT_EQ(merged(stack), (Values{{"model.layers.0.up.weight", {1}},
                                   {"model.layers.1.up.weight", {2}},
                                   {"model.layers.2.up.weight", {2}},
                                   {"model.layers.3.up.weight", {2}}}));
  EXPECT_EQ(config_["num_hidden_layers"], 3);
  EXPECT_TRUE(has_note("1 tensor of multi-token prediction is in no slice"));
}

TEST_F(MissingTensors, TheKeyIsPrintedForLewisOnly) {
  write("base", {{"a.weight", {1}}}, Json::object());
  const Recipe recipe = this->recipe(
      "merge_method: linear\nparameters: {weight: 1}\nmodels:\n- model: base\n"
      "missing:\n- {filter: mtp., value: base}\n- value: refuse\nexperts: fused\n");
  const std::string printed = to_yaml(recipe, false);
  EXPECT_NE(printed.find("missing:\n  - {filter: mtp., value: base}\n  - {value: refuse}\n"),
            std::string::npos)
      << printed;
  EXPECT_NE(printed.find("experts: fused\n"), std::string::npos) << printed;
  EXPECT_EQ(to_yaml(recipe, true).find("missing"), std::string::npos);
  EXPECT_EQ(to_yaml(recipe, true).find("experts"), std::string::npos);
  expect_refused("merge_method: linear\nmodels:\n- model: base\nmissing: keep\n", ExitCode::kUsage,
                 "missing 'keep' is not known");
}

}  // namespace
}  // namespace lewis
