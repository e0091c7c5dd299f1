// Models that store the same thing in different ways: other spellings of names, buffers that only
// one has, several stacks of layers, layers of several kinds, a base that is alone.
#include "small_models.h"

namespace lewis {
namespace {

const std::string kLinear =
    "merge_method: linear\nparameters: {weight: 0.5}\nmodels:\n- model: a\n- model: b\n";

class Fitting : public SmallModels {
 protected:
  // The depth of a tensor in gradients.
  double depth(const std::string& text, const std::string& tensor) const {
    const MergeInputs inputs(recipe(text));
    return inputs.tensor(tensor).depth;
  }
};

// ---- spellings ----

struct Spelling {
  std::string what;
  std::vector<std::string> file, loaded;  // the same tensors by the file and by transformers' class
  std::string module;                     // of `loaded`, for an adapter
};

class Spellings : public Fitting, public testing::WithParamInterface<Spelling> {};
INSTANTIATE_TEST_SUITE_P(
    Families, Spellings,
    testing::Values(
        Spelling{"gemma3",
                 {"language_model.model.embed_tokens.weight",
                  "language_model.model.layers.0.self_attn.q_proj.weight",
                  "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight",
                  "multi_modal_projector.mm_input_projection_weight"},
                 {"model.language_model.embed_tokens.weight",
                  "model.language_model.layers.0.self_attn.q_proj.weight",
                  "model.vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight",
                  "model.multi_modal_projector.mm_input_projection_weight"},
                 "model.language_model.layers.0.self_attn.q_proj"},
        Spelling{"mistral3",
                 {"language_model.lm_head.weight", "language_model.model.embed_tokens.weight",
                  "language_model.model.layers.1.self_attn.q_proj.weight",
                  "vision_tower.transformer.layers.0.x.weight"},
                 {"lm_head.weight", "model.language_model.embed_tokens.weight",
                  "model.language_model.layers.1.self_attn.q_proj.weight",
                  "model.vision_tower.transformer.layers.0.x.weight"},
                 "model.language_model.layers.1.self_attn.q_proj"},
        Spelling{"llava",
                 {"image_newline", "language_model.model.layers.0.self_attn.q_proj.weight",
                  "vision_tower.vision_model.encoder.layers.0.x.weight"},
                 {"model.image_newline", "model.language_model.layers.0.self_attn.q_proj.weight",
                  "model.vision_tower.encoder.layers.0.x.weight"},
                 "model.language_model.layers.0.self_attn.q_proj"},
        Spelling{"qwen2_5_vl",
                 {"model.layers.0.self_attn.q_proj.weight", "visual.blocks.0.attn.qkv.weight"},
                 {"model.language_model.layers.0.self_attn.q_proj.weight",
                  "model.visual.blocks.0.attn.qkv.weight"},
                 "model.language_model.layers.0.self_attn.q_proj"},
        Spelling{"gpt2",
                 {"h.0.attn.c_attn.weight", "wte.weight"},
                 {"transformer.h.0.attn.c_attn.weight", "transformer.wte.weight"},
                 "transformer.h.0.attn.c_attn"},
        Spelling{"bert",
                 {"encoder.layer.0.output.LayerNorm.gamma", "encoder.layer.0.output.dense.weight"},
                 {"bert.encoder.layer.0.output.LayerNorm.weight",
                  "bert.encoder.layer.0.output.dense.weight"},
                 "bert.encoder.layer.0.output.dense"},
        Spelling{"bloom",
                 {"h.1.mlp.dense_h_to_4h.weight", "word_embeddings.weight"},
                 {"transformer.h.1.mlp.dense_h_to_4h.weight", "transformer.word_embeddings.weight"},
                 "transformer.h.1.mlp.dense_h_to_4h"},
        Spelling{"compiled",
                 {"model.layers.0.mlp.up_proj.weight"},
                 {"_orig_mod.model.layers.0.mlp.up_proj.weight"},
                 "_orig_mod.model.layers.0.mlp.up_proj"},
        Spelling{"inner_model",
                 {"model.layers.0.mlp.up_proj.weight"},
                 {"layers.0.mlp.up_proj.weight"},
                 "layers.0.mlp.up_proj"}),
    [](const auto& test) { return test.param.what; });

Values numbered(const std::vector<std::string>& names, float first) {
  Values values;
  for (size_t i = 0; i < names.size(); ++i) {
    const float v = first + static_cast<float>(i);
    values[names[i]] = {v, v, v, v};
  }
  return values;
}
std::map<std::string, Shape> squares(const std::vector<std::string>& names) {
  std::map<std::string, Shape> shapes;
  for (const std::string& name : names) shapes[name] = {2, 2};
  return shapes;
}

// The result has the names of the first model.
TEST_P(Spellings, AreMergedAsOne) {
  const auto& [what, file, loaded, module] = GetParam();
  for (const bool reverse : {false, true}) {
    const auto& main = reverse ? loaded : file;
    const auto& other = reverse ? file : loaded;
    write("a", numbered(main, 1), Json::object(), squares(main));
    write("b", numbered(other, 3), Json::object(), squares(other));
    EXPECT_EQ(merged(kLinear), numbered(main, 2)) << what << reverse;
    EXPECT_TRUE(has_note("is taken for its"));
  }
}

TEST_P(Spellings, AdaptersChangeWhatTheyMean) {
  const auto& [what, file, loaded, module] = GetParam();
  for (const bool reverse : {false, true}) {
    const auto& base = reverse ? loaded : file;
    const std::string changed = module + ".weight";
    const auto place =
        static_cast<size_t>(std::find(loaded.begin(), loaded.end(), changed) - loaded.begin());
    ASSERT_LT(place, loaded.size());
    const std::string asked = reverse ? file[place].substr(0, file[place].size() - 7) : module;
    write("a", numbered(base, 1), Json::object(), squares(base));
    const std::string m = "base_model.model." + asked;
    write_adapter("lora", {{m + ".lora_A.weight", {1, 2}}, {m + ".lora_B.weight", {10, 20}}},
                  {{m + ".lora_A.weight", {1, 2}}, {m + ".lora_B.weight", {2, 1}}});
    Values expected = numbered(base, 1);
    const std::vector<float> delta = {10, 20, 20, 40};
    for (size_t i = 0; i < 4; ++i) expected.at(base[place])[i] += delta[i];
    EXPECT_EQ(merged("merge_method: passthrough\nmodels:\n- model: a+lora\n"), expected) << what;
  }
}

TEST_F(Fitting, AnAdaptersOwnNameMayBeInItsKeys) {
  const std::string x = "model.layers.0.mlp.up_proj";
  write("a", {{x + ".weight", {1, 1, 1, 1}}}, Json::object(), {{x + ".weight", {2, 2}}});
  const std::string baked = "merge_method: passthrough\nmodels:\n- model: a+lora\n";
  for (const std::string name : {"default", "my_adapter", "v1.2"}) {
    const std::string a = "base_model.model." + x + ".lora_A." + name + ".weight",
                      b = "base_model.model." + x + ".lora_B." + name + ".weight";
    write_adapter("lora", {{a, {1, 0}}, {b, {1, 0}}}, {{a, {1, 2}}, {b, {2, 1}}});
    EXPECT_EQ(merged(baked).at(x + ".weight"), (std::vector<float>{2, 1, 1, 1})) << name;
  }
  const std::string m = "base_model.model." + x;
  write_adapter("lora", {{m + ".lora_A.one.weight", {1, 0}}, {m + ".lora_B.two.weight", {1, 0}}},
                {{m + ".lora_A.one.weight", {1, 2}}, {m + ".lora_B.two.weight", {2, 1}}});
  expect_refused(baked, ExitCode::kInput, "several adapters (one, two)");
}

// ---- buffers ----

TEST_F(Fitting, BuffersOfOneModelAreLeftOut) {
  for (const auto& [buffer, shape] :
       std::map<std::string, Shape>{{"model.layers.0.self_attn.rotary_emb.inv_freq", {4}},
                                    {"model.rotary_emb.inv_freq", {4}},
                                    {"h.0.attn.bias", {1, 1, 2, 2}},
                                    {"h.0.attn.masked_bias", {1, 4}},
                                    {"bert.embeddings.position_ids", {1, 4}}}) {
    const Values weights = {{"model.layers.0.x.weight", {1, 2}}};
    Values both = weights;
    both[buffer] = {1, 2, 3, 4};
    for (const bool first : {true, false}) {
      write("a", first ? both : weights, Json::object(), {{buffer, shape}});
      write("b", first ? weights : both, Json::object(), {{buffer, shape}});
      EXPECT_EQ(merged(kLinear), weights) << buffer;
      EXPECT_TRUE(has_note("buffer")) << buffer;
      EXPECT_EQ(std::count_if(report_.warnings.begin(), report_.warnings.end(),
                              [](const auto& l) { return l.find("buffer") != l.npos; }),
                1);
    }
    write("a", both, Json::object(), {{buffer, shape}});
    write("b", both, Json::object(), {{buffer, shape}}, {{buffer, DType::kBF16}});
    EXPECT_EQ(merged(kLinear), weights) << buffer;
  }
}

TEST_F(Fitting, OtherTensorsOfOneModelAreStillRefused) {
  write("a", {{"model.x", {1, 2}}, {"visual.attn.bias", {1}}}, Json::object());
  write("b", {{"model.x", {1, 2}}}, Json::object());
  expect_refused(kLinear, ExitCode::kInput, "visual.attn.bias");
}

// ---- several stacks of layers ----

TEST_F(Fitting, GradientsGoOverEachStack) {
  Values values;
  for (int i = 0; i < 3; ++i) values[fmt::format("language_model.model.layers.{}.x", i)] = {0};
  for (int i = 0; i < 5; ++i)
    values[fmt::format("vision_tower.vision_model.encoder.layers.{}.x", i)] = {0};
  for (const char* model : {"a", "b"}) write(model, values, Json::object());
  EXPECT_EQ(depth(kLinear, "language_model.model.layers.1.x"), 0.5);
  EXPECT_EQ(depth(kLinear, "language_model.model.layers.2.x"), 1);
  EXPECT_EQ(depth(kLinear, "vision_tower.vision_model.encoder.layers.1.x"), 0.25);
  for (auto& [name, value] : values) value = {100};
  write("b", values, Json::object());
  const Values all = merged(
      "merge_method: linear\nmodels:\n- model: a\n  parameters: {weight: 1}\n- model: b\n  "
      "parameters: {weight: [0, 1]}\nparameters: {normalize: false}\n");
  EXPECT_EQ(all.at("language_model.model.layers.1.x"), (std::vector<float>{50}));
  EXPECT_EQ(all.at("vision_tower.vision_model.encoder.layers.1.x"), (std::vector<float>{25}));
}

TEST_F(Fitting, PredictionHeadsDoNotStretchGradients) {
  Values values;
  for (int i = 0; i < 4; ++i) values[fmt::format("model.layers.{}.x", i)] = {0};
  for (const char* model : {"a", "b"})
    write(model, values, {{"num_hidden_layers", 3}, {"num_nextn_predict_layers", 1}});
  EXPECT_EQ(depth(kLinear, "model.layers.1.x"), 0.5);
  EXPECT_EQ(depth(kLinear, "model.layers.3.x"), 1);
}

TEST_F(Fitting, SlicesNameTheStacks) {
  write("a", {{"model.layers.0.x", {0}}, {"visual.blocks.0.x", {0}}, {"visual.blocks.1.x", {0}}},
        Json::object());
  expect_refused(
      "merge_method: passthrough\nslices:\n- sources: [{model: a, layer_range: [0, 1]}]\n",
      ExitCode::kUsage, "model.layers. (1 layer), visual.blocks. (2 layers); give each part");
}

// ---- layers of several kinds ----

TEST_F(Fitting, StackedLayersKeepTheirKinds) {
  Values values;
  for (int i = 0; i < 4; ++i) values[fmt::format("model.layers.{}.x", i)] = {static_cast<float>(i)};
  write("a", values, {{"model_type", "gemma2"}, {"num_hidden_layers", 4}});
  // Another model that lists its layers.
  write("b", values,
        {{"model_type", "gemma2"},
         {"num_hidden_layers", 4},
         {"layer_types",
          {"full_attention", "full_attention", "sliding_attention", "sliding_attention"}}});
  const Values all = merged(
      "merge_method: passthrough\nslices:\n- sources: [{model: a, layer_range: [1, 3]}]\n- "
      "sources: [{model: b, layer_range: [1, 4]}]\n");
  EXPECT_EQ(all.size(), 5u);
  EXPECT_EQ(all.at("model.layers.2.x"), (std::vector<float>{1}));
  EXPECT_EQ(config_.at("num_hidden_layers"), 5);
  EXPECT_EQ(config_.at("layer_types"),
            (Json{"full_attention", "sliding_attention", "full_attention", "sliding_attention",
                  "sliding_attention"}));
  write("a", values,
        {{"model_type", "of_tomorrow"}, {"num_hidden_layers", 4}, {"attn_layer_period", 2}});
  expect_refused(
      "merge_method: passthrough\nslices:\n- sources: [{model: a, layer_range: [1, 3]}]\n",
      ExitCode::kUsage, "attn_layer_period");
}

// ---- the base alone ----

TEST_F(Fitting, ABaseAloneIsTheResult) {
  const std::string x = "model.layers.0.mlp.up_proj";
  write("a", {{x + ".weight", {1, 2, 3, 4}}}, {{"num_hidden_layers", 1}},
        {{x + ".weight", {2, 2}}});
  const std::string m = "base_model.model." + x;
  write_adapter("lora", {{m + ".lora_A.weight", {1, 0}}, {m + ".lora_B.weight", {1, 1}}},
                {{m + ".lora_A.weight", {1, 2}}, {m + ".lora_B.weight", {2, 1}}});
  const std::vector<float> expected = {2, 2, 4, 4};
  for (const std::string method :
       {"task_arithmetic", "ties", "dare_ties", "della", "breadcrumbs", "sce", "model_stock"}) {
    for (const std::string dtype : {"", "dtype: bfloat16\n"}) {
      const std::string head =
          "merge_method: " + method + "\nbase_model: a+lora\n" + dtype + "parameters: {}\n";
      EXPECT_EQ(merged(head + "models:\n- model: a+lora\n  parameters: {weight: 0.5}\n")
                    .at(x + ".weight"),
                expected)
          << method;
      EXPECT_TRUE(has_note("the base is the only model")) << method;
      EXPECT_EQ(merged(head + "slices:\n- sources: [{model: a+lora, layer_range: [0, 1]}]\n")
                    .at(x + ".weight"),
                expected)
          << method;
    }
  }
}

// ---- slices of models that spell names in different ways ----

TEST_F(Fitting, SlicesTakeLayersByAnySpelling) {
  Values short_one, long_one;
  for (int i = 0; i < 2; ++i)
    short_one[fmt::format("model.layers.{}.x", i)] = {1.0f + static_cast<float>(i)};
  for (int i = 0; i < 4; ++i)
    long_one[fmt::format("_orig_mod.model.layers.{}.x", i)] = {10.0f + static_cast<float>(i)};
  write("a", short_one, {{"num_hidden_layers", 2}});
  write("b", long_one, {{"num_hidden_layers", 4}});
  const Values expected = {
      {"model.layers.0.x", {1}}, {"model.layers.1.x", {12}}, {"model.layers.2.x", {13}}};
  EXPECT_EQ(merged("merge_method: passthrough\nslices:\n- sources: [{model: a, layer_range: [0, "
                   "1]}]\n- sources: [{model: b, layer_range: [2, 4]}]\n"),
            expected);
}

// ---- head, embeddings and norms of another float type ----

TEST_F(Fitting, OddFloatTypesAreWidened) {
  const Values values = {{"model.embed_tokens.weight", {1, 2, 3, 4}},
                         {"model.norm.weight", {0.5, 2}},
                         {"model.layers.0.mlp.up_proj.weight", {1, 1, 1, 1}},
                         {"lm_head.weight", {4, 3, 2, 1}}};
  const std::map<std::string, Shape> shapes = {{"model.embed_tokens.weight", {2, 2}},
                                               {"model.layers.0.mlp.up_proj.weight", {2, 2}},
                                               {"lm_head.weight", {2, 2}}};
  std::map<std::string, DType> bf16;
  for (const auto& [name, _] : values) bf16[name] = DType::kBF16;
  write("a", values, Json::object(), shapes, bf16);
  for (const std::string odd :
       {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}) {
    MemorySource source;
    for (const auto& [name, of_name] : values) {
      const Shape shape = shapes.contains(name) ? shapes.at(name) : Shape{2};
      if (name != odd) {
        source.add(name, DType::kBF16, shape, of_name);
        continue;
      }
      const std::vector<double> wide(of_name.begin(), of_name.end());
      const auto bytes = std::as_bytes(std::span(wide));
      source.add_bytes(name, DType::kF64, shape, {bytes.begin(), bytes.end()});
    }
    std::filesystem::create_directories(dir_.path / "b");
    source.write(dir_.path / "b/model.safetensors");
    std::ofstream(dir_.path / "b/config.json") << "{}";
    EXPECT_EQ(merged(kLinear), values) << odd;
    EXPECT_TRUE(has_note("of a float type of their own")) << odd;
    // F32 beside BF16 is widened by the merge itself.
    auto types = bf16;
    types[odd] = DType::kF32;
    write("b", values, Json::object(), shapes, types);
    EXPECT_EQ(merged(kLinear), values) << odd;
    EXPECT_TRUE(has_note(odd + " of ")) << odd;
  }
}

}  // namespace
}  // namespace lewis
