// config.json in both spellings, rope formulas, refusals.
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "model/model_spec.h"

namespace lewis {
namespace {

const Json kConfig = {{"model_type", "llama"},    {"hidden_size", 64},
                      {"intermediate_size", 112}, {"num_hidden_layers", 4},
                      {"num_attention_heads", 4}, {"num_key_value_heads", 2},
                      {"vocab_size", 256}};

ModelSpec spec_with(const Json& change) {
  Json config = kConfig;
  if (change.is_object()) config.update(change);
  return read_model_spec(config, "config.json");
}

void expect_refused(const Json& change, const std::string& said) {
  try {
    spec_with(change);
    FAIL() << "accepted: " << change;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kInput);
    EXPECT_NE(std::string(e.what()).find("config.json"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find(said), std::string::npos) << e.what();
  }
}

TEST(Config, DefaultsAreTransformers) {
  const ModelSpec s = spec_with({});
  EXPECT_EQ(s.head_dim, 16);
  EXPECT_EQ(s.max_positions, 2048);
  EXPECT_FLOAT_EQ(s.norm.epsilon, 1e-6f);
  EXPECT_FLOAT_EQ(s.attention_scale, 0.25f);
  EXPECT_FALSE(s.tied_head || s.qkv_bias || s.o_bias || s.mlp_bias);
  EXPECT_FLOAT_EQ(s.ropes[0].inverse_frequency[1],
                  static_cast<float>(std::pow(10000.0, -2.0 / 16)));
  EXPECT_EQ(spec_with({{"num_key_value_heads", nullptr}}).kv_heads, 4);
}

// family_defaults.json: for every family all keys of a transformers configuration for which
// nothing was said. A file without them must mean the same.
TEST(Config, MissingKeysMeanWhatTransformersAssumes) {
  const Json defaults = read_json(LEWIS_TEST_DATA "/golden/family_defaults.json");
  size_t families = 0;
  for (const auto& [model_type, all] : defaults.items()) {
    const ModelSpec assumed = read_model_spec({{"model_type", model_type}}, "config.json");
    EXPECT_TRUE(assumed == read_model_spec(all, "config.json")) << model_type;
    ++families;
  }
  EXPECT_EQ(families, 44u);
}

TEST(Config, SpellingsOfTransformers4And5AreTheSame) {
  const Json scaling = {{"factor", 8.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 64}};
  Json old_type = scaling, new_type = scaling, inside = scaling;
  old_type["type"] = "llama3";
  new_type["rope_type"] = "llama3";
  inside["rope_type"] = "llama3";
  inside["rope_theta"] = 500000.0;
  const auto expected = spec_with({{"rope_parameters", inside}}).ropes[0].inverse_frequency;
  EXPECT_EQ(
      spec_with({{"rope_theta", 500000.0}, {"rope_scaling", new_type}}).ropes[0].inverse_frequency,
      expected);
  EXPECT_EQ(
      spec_with({{"rope_theta", 500000.0}, {"rope_scaling", old_type}}).ropes[0].inverse_frequency,
      expected);
  EXPECT_EQ(spec_with({{"rope_scaling", nullptr}}).ropes[0].inverse_frequency,
            spec_with({}).ropes[0].inverse_frequency);
}

// The published formula of Llama 3.1 in its own three cases.
TEST(Config, Llama3RopeIsThePublishedFormula) {
  const double theta = 500000, factor = 8, low = 1, high = 4, length = 64;
  const auto found = spec_with({{"rope_parameters",
                                 {{"rope_type", "llama3"},
                                  {"rope_theta", theta},
                                  {"factor", factor},
                                  {"low_freq_factor", low},
                                  {"high_freq_factor", high},
                                  {"original_max_position_embeddings", 64}}}})
                         .ropes[0]
                         .inverse_frequency;
  ASSERT_EQ(found.size(), 8u);
  for (size_t i = 0; i < found.size(); ++i) {
    const double f = std::pow(theta, -static_cast<double>(i) / 8), wave = 2 * std::numbers::pi / f;
    double expected = f;
    if (wave > length / low)
      expected = f / factor;
    else if (wave >= length / high) {
      const double smooth = (length / wave - low) / (high - low);
      expected = (1 - smooth) * f / factor + smooth * f;
    }
    EXPECT_NEAR(found[i] / expected, 1, 1e-6) << i;
  }
}

TEST(Config, LinearRopeDividesByTheFactor) {
  const auto plain = spec_with({}).ropes[0].inverse_frequency;
  const auto slow = spec_with({{"rope_scaling", {{"type", "linear"}, {"factor", 4.0}}}})
                        .ropes[0]
                        .inverse_frequency;
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_FLOAT_EQ(slow[i], plain[i] / 4);
}

TEST(Config, WhatChangesTheComputationAndIsNotKnownIsRefused) {
  expect_refused({{"model_type", "lama"}}, "the nearest is 'llama'");
  expect_refused({{"model_type", nullptr}}, "model_type");
  expect_refused({{"hidden_act", "tanh"}}, "hidden_act");
  expect_refused({{"rope_scaling", {{"type", "mrope"}, {"factor", 4.0}}}}, "mrope");
  expect_refused({{"rope_scaling", {{"type", "linear"}}}}, "factor");
  expect_refused({{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}, {"beta_fast", 32}}}},
                 "beta_fast");
  expect_refused({{"sliding_window", 128}}, "sliding_window");
  expect_refused({{"num_local_experts", 8}}, "num_local_experts");
  expect_refused({{"quantization_config", {{"quant_method", "gptq"}}}}, "quantization_config");
  expect_refused({{"layer_types", {"full_attention", "sliding_attention"}}}, "layer_types");
  expect_refused({{"partial_rotary_factor", 0.5}}, "partial_rotary_factor");
}

ModelSpec family(const char* model_type, Json change) {
  change["model_type"] = model_type;
  return read_model_spec(change, "config.json");
}

void expect_family_refused(const char* model_type, const Json& change, const std::string& said) {
  try {
    family(model_type, change);
    FAIL() << model_type << " accepted: " << change;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kInput);
    EXPECT_NE(std::string(e.what()).find("config.json"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find(said), std::string::npos) << e.what();
  }
}

TEST(Config, EveryFamilyRefusesWhatItDoesNotHave) {
  for (const std::string_view name : supported_model_types()) {
    const std::string text(name);
    // transformers' own default has heads of 42 values, half of which cannot be turned in pairs.
    if (text == "glm4_moe") continue;
    static const std::set<std::string> kMultimodal = {
        "gemma3",   "llava",        "mistral3", "qwen2_5_vl", "qwen3_5", "qwen3_5_moe",
        "qwen3_vl", "qwen3_vl_moe", "kimi_k25", "llama4",     "gemma4"};
    const bool multimodal = kMultimodal.contains(text);
    const auto refuses = [&](const Json& change, const std::string& said) {
      expect_family_refused(text.c_str(), multimodal ? Json{{"text_config", change}} : change,
                            said);
    };
    if (!text.starts_with("gemma4"))
      refuses({{"rope_scaling", {{"rope_type", "proportional"}}}}, "proportional");
    refuses({{"hidden_activation", "quick_gelu"}}, "quick_gelu");
    // Nemotron-H has as many layers as the list says, DeepSeek V2 no number of experts by default.
    if (text != "nemotron_h" && text != "deepseek_v2")
      refuses({{"layer_types", Json::array({"linear_attention"})}}, "layer_types");
    const bool latent =
        text.starts_with("deepseek") || text.starts_with("kimi") || text == "glm4_moe_lite";
    if (!latent) refuses({{"kv_lora_rank", 512}}, "kv_lora_rank");
    refuses({{"quantization_config", {{"quant_method", "gptq"}}}}, "quantization_config");
    refuses({{"hidden_size", 0}}, "hidden_size");
  }
  expect_family_refused("gemma3_text", {{"attn_logit_softcapping", 50.0}}, "softcapping");
  expect_family_refused("gemma3_text", {{"use_bidirectional_attention", true}}, "bidirectional");
  expect_family_refused("qwen2", {{"num_experts", 8}}, "num_experts");
  expect_family_refused("qwen3", {{"partial_rotary_factor", 0.5}}, "partial_rotary_factor");
  expect_family_refused("qwen3_moe", {{"num_experts_per_tok", 200}}, "num_experts_per_tok");
  expect_family_refused("mixtral", {{"num_experts", 8}, {"num_local_experts", 4}}, "experts");
  expect_family_refused("qwen2", {{"layer_types", Json::array({"full_attention"})}}, "32 layers");
  expect_family_refused("smollm3", {{"no_rope_layers", {1, 0}}}, "no_rope_layers");
  expect_family_refused("phi3", {{"partial_rotary_factor", 1.5}}, "partial_rotary_factor");
  expect_family_refused(
      "phi3",
      {{"rope_scaling", {{"type", "longrope"}, {"short_factor", {1, 2}}, {"long_factor", {1, 2}}}}},
      "short_factor");
  expect_family_refused("llama", {{"rope_parameters", {{"partial_rotary_factor", 0.5}}}},
                        "partial_rotary_factor");
}

TEST(Config, TheFamiliesOf2026RefuseWhatTransformersDoesNotRead) {
  const auto yarn = [](Json more) {
    Json all = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32}};
    all.update(more);
    return all;
  };
  expect_family_refused("ministral3", {{"rope_parameters", yarn(Json::object())}},
                        "llama_4_scaling_beta");
  expect_family_refused("ministral3", {{"rope_parameters", yarn({{"llama_4_scaling_beta", "a"}})}},
                        "a number");
  expect_family_refused("mistral", {{"rope_parameters", yarn({{"llama_4_scaling_beta", 0.1}})}},
                        "llama_4_scaling_beta");
  expect_family_refused("olmo3", {{"rope_scaling", {{"type", "yarn"}, {"factor", 8.0}}}},
                        "rope_type in its place");
  expect_family_refused("llama", {{"rope_scaling", {{"type", "dynamic"}, {"alpha", 1000.0}}}},
                        "alpha");
  expect_family_refused("phimoe", {{"num_experts_per_tok", 3}}, "num_experts_per_tok");
  expect_family_refused("phimoe", {{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}},
                        "rope_type");
  expect_family_refused("olmoe", {{"clip_qkv", -1.0}}, "clip_qkv");
  expect_family_refused("llama", {{"hidden_act", "xielu"}}, "hidden_act");
  expect_family_refused("qwen3_vl_text", {{"rope_parameters", {{"mrope_section", {1, 2}}}}},
                        "mrope_section");
  expect_family_refused("gemma", {{"use_bidirectional_attention", true}}, "bidirectional");
  expect_family_refused("exaone4", {{"layer_types", Json::array({"full_attention"})}}, "32 layers");
}

// Lists of another length, kinds that nobody knows, heads and experts that cannot be divided.
TEST(Config, HybridsAndMixturesRefuseWhatContradicts) {
  const Json one_layer = Json::array({"linear_attention"}), unknown = Json::array({"mamba3"});
  for (const char* name : {"qwen3_5_text", "qwen3_5_moe_text", "qwen3_next", "granitemoehybrid"}) {
    expect_family_refused(name, {{"layer_types", one_layer}}, "layers, not of 1");
    expect_family_refused(name, {{"num_hidden_layers", 1}, {"layer_types", unknown}}, "mamba3");
  }
  for (const char* name : {"qwen3_5_text", "qwen3_next"})
    expect_family_refused(name, {{"linear_num_value_heads", 33}}, "linear_num_key_heads = 16");
  expect_family_refused("qwen3_5_text", {{"attn_output_gate", false}}, "attn_output_gate");
  expect_family_refused("lfm2", {{"layer_types", Json::array({"conv"})}}, "32 layers");
  expect_family_refused("nemotron_h", {{"hybrid_override_pattern", "M*X"}}, "letters M, E, *, -");
  expect_family_refused("nemotron_h",
                        {{"num_hidden_layers", 3}, {"layers_block_type", {"moe", "mlp"}}},
                        "3 layers, not of 2");
  expect_family_refused("nemotron_h", {{"n_groups", 3}}, "n_groups");
  expect_family_refused("granitemoehybrid", {{"mamba_n_groups", 3}}, "mamba_n_groups");
  expect_family_refused("granitemoehybrid", {{"mamba_d_head", 63}}, "mamba_d_head");
  expect_family_refused("falcon_h1", {{"ssm_multipliers", {1, 2}}}, "five");
  expect_family_refused("falcon_h1", {{"mlp_multipliers", {1}}}, "two");
  expect_family_refused("deepseek_v3", {{"n_group", 7}}, "a divisor of the 256 experts");
  expect_family_refused("deepseek_v3", {{"topk_group", 9}}, "topk_group");
  expect_family_refused("deepseek_v3", {{"scoring_func", "softmax"}}, "scoring_func");
  expect_family_refused("deepseek_v3", {{"num_key_value_heads", 8}}, "num_key_value_heads");
  expect_family_refused("deepseek_v2", {{"num_experts_per_tok", 2}, {"topk_method", "noaux_tc"}},
                        "topk_method");
  expect_family_refused("llama", {{"mamba_n_heads", 8}}, "mamba_n_heads");
  expect_family_refused("qwen3", {{"linear_num_value_heads", 8}}, "linear_num_value_heads");
}

TEST(Config, HybridsReadEverySpellingOfTheirLayers) {
  const Json list = {"linear_attention", "mlp", "full_attention", "moe"};
  const ModelSpec nemotron = family("nemotron_h", {{"layers_block_type", list}});
  EXPECT_TRUE(nemotron == family("nemotron_h", {{"hybrid_override_pattern", "M-*E"}}));
  EXPECT_TRUE(nemotron ==
              family("nemotron_h", {{"layer_types", {"mamba", "mlp", "attention", "moe"}}}));
  EXPECT_EQ(nemotron.layers, 4);
  const Json every_second = {{"num_hidden_layers", 2}, {"full_attention_interval", 2}};
  const Json listed = {{"num_hidden_layers", 2},
                       {"layer_types", {"linear_attention", "full_attention"}}};
  for (const char* name : {"qwen3_5_text", "qwen3_5_moe_text", "qwen3_next"})
    EXPECT_TRUE(family(name, every_second) == family(name, listed)) << name;
  EXPECT_TRUE(
      family("lfm2", {{"num_hidden_layers", 2}, {"full_attn_idxs", {1}}}) ==
      family("lfm2", {{"num_hidden_layers", 2}, {"layer_types", {"conv", "full_attention"}}}));
  Json conv = {{"num_hidden_layers", 1}, {"layer_types", Json::array({"conv"})}};
  const ModelSpec three = family("lfm2", conv);
  conv["conv_L_cache"] = 4;
  EXPECT_FALSE(family("lfm2", conv) == three);
}

TEST(Config, TheFirstGemmaReadsHiddenAct) {
  EXPECT_EQ(family("gemma", {{"hidden_act", "silu"}, {"hidden_activation", "gelu"}}).activation,
            Activation::kSilu);
  EXPECT_EQ(family("gemma", {{"hidden_act", "gelu"}}).activation, Activation::kGeluTanh);
}

// Published files of Hunyuan write the keys of yarn beside alpha, those of MiniMax-M2 rotary_dim.
TEST(Config, PublishedSpellingsOf2026) {
  const Json alpha = {{"type", "dynamic"},    {"alpha", 1000.0}, {"factor", 1.0},
                      {"beta_fast", 32},      {"beta_slow", 1},  {"mscale", 1.0},
                      {"mscale_all_dim", 1.0}};
  const ModelSpec hunyuan = family("hunyuan_v1_dense", {{"rope_scaling", alpha}});
  EXPECT_FLOAT_EQ(hunyuan.ropes[0].inverse_frequency[1],
                  static_cast<float>(std::pow(10000 * std::pow(1000.0, 128.0 / 126), -2.0 / 128)));
  EXPECT_EQ(family("minimax_m2", {{"rotary_dim", 64}, {"use_qk_norm", true}})
                .ropes[0]
                .inverse_frequency.size(),
            32u);
  EXPECT_EQ(family("olmo3", {{"sliding_window", 8}, {"num_hidden_layers", 5}}).layer[3].rope, 0);
}

// gpt-oss, Llama 4 and Gemma 4: files as they were published and as transformers 5 saves them.
TEST(Config, MixturesReadThePublishedSpellings) {
  const Json yarn = {{"beta_fast", 32.0}, {"beta_slow", 1.0},
                     {"factor", 8.0},     {"original_max_position_embeddings", 1024},
                     {"truncate", false}, {"rope_type", "yarn"}};
  Json inside = yarn;
  inside["rope_theta"] = 10000.0;
  EXPECT_TRUE(family("gpt_oss", {{"rope_scaling", yarn},
                                 {"rope_theta", 10000.0},
                                 {"num_local_experts", 8},
                                 {"experts_per_token", 4},
                                 {"initial_context_length", 1024}}) ==
              family("gpt_oss", {{"rope_parameters", inside}, {"num_experts", 8}}));
  // Without an object the rope is the family's, with the file's theta.
  const ModelSpec assumed = family("gpt_oss", {{"rope_theta", 10000.0}});
  EXPECT_FALSE(assumed.ropes == family("gpt_oss", {}).ropes);
  EXPECT_FLOAT_EQ(assumed.ropes[0].attention_factor,
                  family("gpt_oss", {}).ropes[0].attention_factor);

  const Json listed = {1, 1, 1, 0, 1};
  const ModelSpec llama4 = family("llama4_text", {{"num_hidden_layers", 5}});
  EXPECT_TRUE(llama4 == family("llama4_text", {{"num_hidden_layers", 5},
                                               {"no_rope_layers", Json::array()},
                                               {"moe_layers", {0, 1, 2, 3, 4}}}));
  EXPECT_TRUE(llama4 ==
              family("llama4_text", {{"num_hidden_layers", 5}, {"no_rope_layers", listed}}));
  EXPECT_EQ(llama4.layer[3].chunk, 0);
  EXPECT_EQ(llama4.layer[4].chunk, 8192);
  EXPECT_TRUE(family("llama4_text", {{"attn_temperature_tuning", 4}}) == family("llama4_text", {}));
  const ModelSpec whole =
      family("llama4_text", {{"num_hidden_layers", 5}, {"attention_chunk_size", nullptr}});
  EXPECT_EQ(whole.layer[4].chunk, 0);
}

TEST(Config, Gemma4ReadsSettingsOfSingleLayers) {
  const Json layers = {{"num_hidden_layers", 12}, {"head_dim", 16}, {"attention_k_eq_v", true}};
  Json global = layers, single = layers;
  global["global_head_dim"] = 24;
  global["num_global_key_value_heads"] = 2;
  const Json full = {{"head_dim", 24}, {"num_key_value_heads", 2}};
  single["per_layer_config"] = {{"05", full}, {"11", full}};  // as transformers 5 writes it
  const ModelSpec spec = family("gemma4_text", single);
  EXPECT_TRUE(family("gemma4_text", global) == spec);
  EXPECT_EQ(head_shape(spec, 5).head_dim, 24);
  EXPECT_EQ(head_shape(spec, 5).kv_heads, 2);
  EXPECT_EQ(head_shape(spec, 4).head_dim, 16);
  EXPECT_EQ(spec.ropes[0].inverse_frequency.size(), 12u);
  // transformers makes the last layer see everything.
  const ModelSpec last = family("gemma4_text", {{"num_hidden_layers", 8}});
  EXPECT_EQ(last.layer[7].window, 0);
  EXPECT_EQ(last.layer[6].window, 512);
  const auto refused = [&](const Json& settings, const std::string& said) {
    Json config = layers;
    config["per_layer_config"] = settings;
    expect_family_refused("gemma4_text", config, said);
  };
  refused({{"05", {{"intermediate_size", 7}}}}, "intermediate_size");
  refused({{"12", full}}, "one of 12 layers");
  refused({{"five", full}}, "per_layer_config.five");
  refused({{"05", full}}, "layer 11 is another full_attention");
  refused({{"05", {{"head_dim", 7}}}, {"11", {{"head_dim", 7}}}}, "an even number");
  refused({{"05", {{"num_key_value_heads", 3}}}, {"11", {{"num_key_value_heads", 3}}}},
          "a divisor of num_attention_heads = 8");
}

TEST(Config, MixturesRefuseWhatContradicts) {
  expect_family_refused("gpt_oss", {{"layer_types", Json::array({"full_attention"})}}, "36 layers");
  expect_family_refused("gpt_oss", {{"num_experts_per_tok", 200}}, "at most 128");
  expect_family_refused("gpt_oss", {{"swiglu_limit", -1}}, "swiglu_limit");
  expect_family_refused("llama4_text", {{"no_rope_layers", {1, 0}}}, "48 layers");
  expect_family_refused("llama4_text", {{"num_experts_per_tok", 17}}, "at most 16");
  Json chunked = {{"num_hidden_layers", 1},
                  {"layer_types", Json::array({"chunked_attention"})},
                  {"attention_chunk_size", nullptr}};
  expect_family_refused("llama4_text", chunked, "attention_chunk_size");
  expect_family_refused("gemma4_text", {{"num_kv_shared_layers", 30}}, "num_kv_shared_layers");
  expect_family_refused("gemma4_text", {{"num_kv_shared_layers", 26}}, "the kind of layer");
  expect_family_refused("gemma4_text", {{"use_bidirectional_attention", "all"}}, "text sees");
  expect_family_refused("gemma4_text",
                        {{"enable_moe_block", true},
                         {"num_experts", 2},
                         {"top_k_experts", 3},
                         {"moe_intermediate_size", 8}},
                        "at most 2");
  const Json partial = {
      {"full_attention", {{"rope_type", "proportional"}}},
      {"sliding_attention", {{"rope_type", "default"}, {"partial_rotary_factor", 0.5}}}};
  expect_family_refused("gemma4_text", {{"rope_parameters", partial}}, "partial_rotary_factor");
  expect_family_refused("llama", {{"swiglu_limit", 7.0}}, "swiglu_limit");
  expect_family_refused("qwen3", {{"global_head_dim", 512}}, "global_head_dim");
}

TEST(Config, WindowsAreThoseOfTheFamily) {
  const auto windows = [](const ModelSpec& spec) {
    std::vector<int64_t> found;
    for (const LayerSpec& layer : spec.layer) found.push_back(layer.window);
    return found;
  };
  using Windows = std::vector<int64_t>;
  const Json four = {{"num_hidden_layers", 4}, {"sliding_window", 9}};
  const auto with = [&](Json more) {
    Json all = four;
    all.update(more);
    return all;
  };
  EXPECT_EQ(windows(family("mistral", four)), (Windows{9, 9, 9, 9}));
  EXPECT_EQ(windows(family("mistral", {{"num_hidden_layers", 2}, {"sliding_window", nullptr}})),
            (Windows{0, 0}));
  EXPECT_EQ(windows(family("qwen2", four)), (Windows{0, 0, 0, 0}));
  EXPECT_EQ(
      windows(family("qwen2", with({{"use_sliding_window", true}, {"max_window_layers", 3}}))),
      (Windows{0, 0, 0, 9}));
  EXPECT_EQ(windows(family("gemma2", four)), (Windows{9, 0, 9, 0}));
  EXPECT_EQ(windows(family("gemma3_text", with({{"sliding_window_pattern", 3}}))),
            (Windows{9, 9, 0, 9}));
  EXPECT_EQ(windows(family("cohere2", four)), (Windows{9, 9, 9, 0}));
  const ModelSpec smol = family("smollm3", with({{"use_sliding_window", true}}));
  EXPECT_EQ(windows(smol), (Windows{0, 0, 0, 9}));
  EXPECT_EQ(smol.layer[3].rope, kNoRope);
}

// Where the experts are: decoder_sparse_step and mlp_only_layers.
TEST(Config, SomeLayersHaveExperts) {
  const auto spec =
      family("qwen3_moe",
             {{"num_hidden_layers", 6}, {"decoder_sparse_step", 2}, {"mlp_only_layers", {3}}});
  std::vector<bool> routed;
  for (const LayerSpec& layer : spec.layer) routed.push_back(layer.routed);
  EXPECT_EQ(routed, (std::vector<bool>{false, true, false, false, false, true}));
  EXPECT_FALSE(spec.experts.normalize);
  EXPECT_EQ(family("qwen3_moe", {{"num_local_experts", 9}}).experts.count, 9);
}

TEST(Config, TheTextOfAMultimodalModel) {
  const Json text = {{"model_type", "gemma3_text"}, {"num_hidden_layers", 3}};
  const Json whole = {
      {"model_type", "gemma3"}, {"vision_config", {{"hidden_size", 5}}}, {"text_config", text}};
  EXPECT_TRUE(read_model_spec(whole, "config.json") == read_model_spec(text, "config.json"));
  Json unnamed = whole;
  unnamed["text_config"].erase("model_type");
  EXPECT_TRUE(read_model_spec(unnamed, "config.json") == read_model_spec(text, "config.json"));
  expect_family_refused("gemma3", Json::object(), "text_config");
  expect_family_refused("gemma3", {{"text_config", {{"model_type", "gemma3n_text"}}}},
                        "gemma3n_text");
}

TEST(Rope, FrequenciesFollowTheLengthOfASequence) {
  const ModelSpec longrope = spec_with({{"rope_scaling",
                                         {{"type", "longrope"},
                                          {"short_factor", std::vector<int>(8, 2)},
                                          {"long_factor", std::vector<int>(8, 5)},
                                          {"original_max_position_embeddings", 100}}}});
  const RopeSpec& rope = longrope.ropes[0];
  EXPECT_EQ(rope_frequencies(rope, 100), rope.inverse_frequency);
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_FLOAT_EQ(rope_frequencies(rope, 101)[i], rope.inverse_frequency[i] * 2 / 5);
  }
  EXPECT_TRUE(rope_changes(longrope, 100, 101));
  EXPECT_FALSE(rope_changes(longrope, 99, 100));
  EXPECT_FALSE(rope_changes(longrope, 101, 102));

  const ModelSpec dynamic = spec_with(
      {{"max_position_embeddings", 100}, {"rope_scaling", {{"type", "dynamic"}, {"factor", 4.0}}}});
  EXPECT_EQ(dynamic.max_positions, 400);
  EXPECT_EQ(rope_frequencies(dynamic.ropes[0], 100), spec_with({}).ropes[0].inverse_frequency);
  // Twice the length: theta (4 * 2 - 3)^(d / (d - 2)).
  const double theta = 10000 * std::pow(5, 16.0 / 14);
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_NEAR(
        rope_frequencies(dynamic.ropes[0], 200)[i] * std::pow(theta, static_cast<double>(i) / 8), 1,
        1e-6);
  }
  EXPECT_TRUE(rope_changes(dynamic, 101, 102));
}

TEST(Config, SizesThatMakeNoSenseAreRefused) {
  for (const char* key : {"hidden_size", "intermediate_size", "num_hidden_layers",
                          "num_attention_heads", "vocab_size"}) {
    expect_refused({{key, nullptr}}, key);
    expect_refused({{key, 0}}, key);
    expect_refused({{key, -4}}, key);
    expect_refused({{key, 4.5}}, key);
    expect_refused({{key, "4"}}, key);
    expect_refused({{key, 1e18}}, key);
  }
  expect_refused({{"num_key_value_heads", 3}}, "num_key_value_heads");
  expect_refused({{"num_attention_heads", 6}, {"num_key_value_heads", 2}}, "num_attention_heads");
  expect_refused({{"head_dim", 7}}, "head_dim");
  expect_refused({{"rms_norm_eps", -1}}, "rms_norm_eps");
}

}  // namespace
}  // namespace lewis
