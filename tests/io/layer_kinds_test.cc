// Stacks of layers that are of several kinds: each keeps its own, by lists in config.json.
#include "io/layer_kinds.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"
#include "base/json.h"

namespace lewis {
namespace {

Json stacked(const Json& config, const std::vector<int64_t>& layers) {
  Json result = config;
  std::vector<LayerOrigin> origins;
  for (const int64_t layer : layers) origins.push_back({&config, layer, "model"});
  stack_layer_kinds(origins, result);
  return result;
}

struct Member {
  std::string what;
  Json config;
  std::vector<int64_t> layers;  // of the stack
  Json expected;                // keys of the result
};

const Json S = "sliding_attention", F = "full_attention", L = "linear_attention";

class LayerKinds : public testing::TestWithParam<Member> {};
// The expected lists are written by hand from transformers' configuration_*.py.
INSTANTIATE_TEST_SUITE_P(
    Stacks, LayerKinds,
    testing::Values(
        Member{"gemma2_by_parity",
               {{"model_type", "gemma2"}, {"num_hidden_layers", 4}},
               {0, 1, 1, 2, 3},
               {{"num_hidden_layers", 5}, {"layer_types", {S, F, F, S, F}}}},
        Member{"gemma2_of_one_kind",
               {{"model_type", "gemma2"}, {"num_hidden_layers", 4}},
               {1, 3},
               {{"layer_types", {F, F}}}},
        Member{"gemma3_by_default",
               {{"model_type", "gemma3_text"}, {"num_hidden_layers", 12}},
               {4, 5, 5, 6},
               {{"layer_types", {S, F, F, S}}}},
        Member{"gemma3_by_pattern",
               {{"model_type", "gemma3_text"},
                {"num_hidden_layers", 4},
                {"sliding_window_pattern", 2}},
               {1, 2, 3, 3},
               {{"layer_types", {F, S, F, F}}}},
        Member{"cohere2",
               {{"model_type", "cohere2"}, {"num_hidden_layers", 8}},
               {2, 3, 4, 5},
               {{"layer_types", {S, F, S, S}}}},
        Member{"listed",
               {{"model_type", "gemma2"}, {"num_hidden_layers", 3}, {"layer_types", {F, F, S}}},
               {2, 0, 2},
               {{"layer_types", {S, F, S}}}},
        Member{"smollm3",
               {{"model_type", "smollm3"}, {"num_hidden_layers", 8}},
               {2, 3, 3, 4},
               {{"no_rope_layers", {1, 0, 0, 1}}}},
        Member{"smollm3_listed",
               {{"model_type", "smollm3"}, {"num_hidden_layers", 2}, {"no_rope_layers", {0, 1}}},
               {0, 0, 1},
               {{"no_rope_layers", {0, 0, 1}}}},
        Member{"qwen3_next",
               {{"model_type", "qwen3_next"},
                {"num_hidden_layers", 8},
                {"full_attention_interval", 4}},
               {2, 3, 6, 7},
               {{"layer_types", {L, F, L, F}}}},
        Member{"qwen2_with_windows",
               {{"model_type", "qwen2"},
                {"num_hidden_layers", 4},
                {"use_sliding_window", true},
                {"sliding_window", 32},
                {"max_window_layers", 2}},
               {1, 2, 1, 3},
               {{"layer_types", {F, S, F, S}}}},
        Member{"qwen3_moe_dense_layers",
               {{"model_type", "qwen3_moe"},
                {"num_hidden_layers", 4},
                {"decoder_sparse_step", 2},
                {"mlp_only_layers", {3}}},
               {1, 1, 0, 3},
               {{"decoder_sparse_step", 1}, {"mlp_only_layers", {2, 3}}}},
        Member{
            "deepseek_dense_layers",
            {{"model_type", "deepseek_v3"}, {"num_hidden_layers", 6}, {"first_k_dense_replace", 1}},
            {0, 0, 2, 3},
            {{"first_k_dense_replace", 2}}},
        Member{"gpt_neo",
               {{"model_type", "gpt_neo"},
                {"num_hidden_layers", 4},
                {"attention_types", {{{"global", "local"}, 2}}}},
               {0, 0, 1},
               {{"attention_types", {{{"global", "global", "local"}, 1}}}}},
        Member{"nemotron_h",
               {{"model_type", "nemotron_h"},
                {"num_hidden_layers", 4},
                {"hybrid_override_pattern", "M-M*"}},
               {0, 3, 3, 1},
               {{"hybrid_override_pattern", "M**-"}}},
        Member{"indices",
               {{"model_type", "mllama_text_model"},
                {"num_hidden_layers", 5},
                {"cross_attention_layers", {1, 3}}},
               {0, 1, 1, 4},
               {{"cross_attention_layers", {1, 2}}}}),
    [](const auto& test) { return test.param.what; });

TEST_P(LayerKinds, AreKept) {
  const Json result = stacked(GetParam().config, GetParam().layers);
  EXPECT_EQ(result.at("num_hidden_layers"), GetParam().layers.size());
  for (const auto& [key, value] : GetParam().expected.items())
    EXPECT_EQ(result.value(key, Json()), value) << key;
}

// A model without kinds gets no list.
TEST(Stacks, ModelsOfOneKindStayAsTheyAre) {
  for (const Json& config :
       {Json{{"model_type", "llama"}, {"num_hidden_layers", 4}},
        Json{{"model_type", "qwen2"}, {"num_hidden_layers", 4}, {"max_window_layers", 2}},
        Json{{"model_type", "mixtral"}, {"num_hidden_layers", 4}, {"sliding_window", 8}}}) {
    Json expected = config;
    expected["num_hidden_layers"] = 3;
    EXPECT_EQ(stacked(config, {1, 1, 3}), expected);
  }
}

// A stack that is the model itself is described as before.
// A list of four for seven layers says nothing, and must not begin to when the stack has four.
// Found by fuzzing.
TEST(Stacks, AListOfAnotherLengthIsNotBelievedLater) {
  const Json config = {
      {"model_type", "gemma3_text"}, {"num_hidden_layers", 7}, {"layer_types", {S, F, S, F}}};
  EXPECT_EQ(layer_kind(config, "layer_types", 1), S);
  EXPECT_EQ(stacked(config, {0, 1, 1, 2})["layer_types"], Json({S, S, S, S}));
}

TEST(Stacks, AModelAtItsOwnPlacesStaysAsItIs) {
  for (const Json& config :
       {Json{{"model_type", "gemma2"}, {"num_hidden_layers", 3}},
        Json{{"model_type", "jamba"}, {"num_hidden_layers", 3}, {"attn_layer_period", 2}},
        Json{{"model_type", "gemma3n_text"}, {"num_hidden_layers", 3}}}) {
    EXPECT_EQ(stacked(config, {0, 1, 2}), config);
    if (config["model_type"] == "gemma3n_text") {
      EXPECT_THROW(stacked(config, {0, 1}), Error);
    }
  }
}

// Where transformers has no list, a layer that would change its kind is refused; others are not.
TEST(Stacks, RulesWithoutAListAreKeptOrRefused) {
  const Json jamba = {{"model_type", "jamba"},
                      {"num_hidden_layers", 8},
                      {"attn_layer_period", 4},
                      {"attn_layer_offset", 2}};
  EXPECT_EQ(stacked(jamba, {0, 1, 2, 3, 0, 1, 2, 3}).at("num_hidden_layers"), 8);
  for (const auto& [config, layers] : std::vector<std::pair<Json, std::vector<int64_t>>>{
           {jamba, {0, 1, 1, 2}},
           {{{"model_type", "new"}, {"num_hidden_layers", 4}, {"sliding_window_pattern", 2}},
            {0, 2}},
           {{{"model_type", "new"}, {"num_hidden_layers", 4}, {"first_k_dense_replace", 1}},
            {0, 1, 0}},
           {{{"model_type", "gemma3n_text"}, {"num_hidden_layers", 4}, {"num_kv_shared_layers", 2}},
            {0, 1}}}) {
    try {
      stacked(config, layers);
      ADD_FAILURE() << config.dump();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kUsage);
      EXPECT_NE(std::string(e.what()).find("layer"), std::string::npos) << e.what();
    }
  }
}

// Gemma 4: settings of single layers go along with their layers, by the numbers of the result.
TEST(Stacks, SettingsOfSingleLayersGoAlong) {
  const Json full = {{"head_dim", 32}};
  const Json config = {{"model_type", "gemma4_text"},
                       {"num_hidden_layers", 3},
                       {"hidden_size_per_layer_input", 0},
                       {"layer_types", {S, S, F}},
                       {"per_layer_config", {{"02", full}}}};
  const Json result = stacked(config, {0, 2, 1, 2});
  EXPECT_EQ(result["layer_types"], Json({S, F, S, F}));
  EXPECT_EQ(result["per_layer_config"], Json({{"0001", full}, {"0003", full}}));
  const auto expect_refused = [](const Json& of, const std::vector<int64_t>& layers,
                                 const std::string& said) {
    try {
      stacked(of, layers);
      ADD_FAILURE() << "accepted: " << said;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kUsage);
      EXPECT_NE(std::string(e.what()).find(said), std::string::npos) << e.what();
    }
  };
  expect_refused(config, {0, 2, 1}, "let the slices end with a layer that is");
  Json embedded = config;
  embedded["hidden_size_per_layer_input"] = 12;
  expect_refused(embedded, {0, 2}, "hidden_size_per_layer_input");
  embedded.erase("hidden_size_per_layer_input");  // transformers assumes 256
  expect_refused(embedded, {0, 2}, "hidden_size_per_layer_input");
  Json sharing = config;
  sharing["num_kv_shared_layers"] = 1;
  expect_refused(sharing, {0, 2}, "num_kv_shared_layers");
}

// A list of kinds has one entry per layer, and perhaps one per layer of a promised MTP module.
TEST(LayerLists, HaveOneEntryPerLayer) {
  const auto message = [](const Json& config) -> std::string {
    try {
      check_layer_lists(config, "config.json");
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kInput);
      return e.what();
    }
    return "";
  };
  const Json three = {"a", "b", "c"};
  const auto with = [&](int64_t layers, Json more = Json::object()) {
    more["num_hidden_layers"] = layers;
    return more;
  };
  for (const char* key : {"layer_types", "mlp_layer_types"}) {
    EXPECT_EQ(message(with(3, {{key, three}})), "");
    EXPECT_EQ(message(with(2, {{key, three}, {"num_nextn_predict_layers", 1}})), "");
    EXPECT_EQ(message(with(4, {{key, three}})),
              fmt::format("config.json: key '{}' is a list of 3, expected one entry for each of 4 "
                          "layers",
                          key));
    EXPECT_NE(message({{"text_config", with(2, {{key, three}})}}), "");
    EXPECT_EQ(message({{key, three}}), "") << "the list may say how many there are";
    EXPECT_EQ(message(with(4, {{key, nullptr}})), "");
  }
  EXPECT_EQ(message(with(4)), "");
  EXPECT_EQ(message(with(4, {{"model_type", "nemotron_h"}, {"layer_types", three}})), "");
}

}  // namespace
}  // namespace lewis
