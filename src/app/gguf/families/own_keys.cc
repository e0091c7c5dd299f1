#include "app/gguf/families/own_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "app/gguf/families/key_writer.h"
#include "base/json.h"

namespace lewis {
namespace {

void set_float(KeyWriter& keys, std::string_view key, double value) {
  keys.set(key, static_cast<float>(value));
}

// Where the rope has its usual base, the files of the first Gemmas do not name it.
void leave_usual_base(KeyWriter& keys) {
  if (keys.spec.ropes.at(0).theta == 10000) keys.remove("rope.freq_base");
}

// llama.cpp tells the largest model of a family by its number of layers and scales its scores by
// the width of a head if the heads were as wide as the hidden states.
void expect_gemma_scale(const KeyWriter& keys, int64_t layers_of_largest) {
  const ModelSpec& spec = keys.spec;
  const int64_t width = spec.layers == layers_of_largest ? spec.hidden / spec.heads : spec.head_dim;
  keys.expect_attention_scale(1 / std::sqrt(static_cast<double>(width)));
}

// The list of a longrope, as llama.cpp reads it.
std::vector<float> factors_of(const KeyWriter& keys, const char* key, int64_t count) {
  const auto found = keys.rope().find(key);
  if (found == keys.rope().end() || !found->is_array() ||
      static_cast<int64_t>(found->size()) != count)
    throw keys.refuse(fmt::format("{} is no list of {} numbers", key, count));
  return found->get<std::vector<float>>();
}

}  // namespace

void write_cohere2(KeyWriter& keys) {
  set_float(keys, "logit_scale", keys.spec.logit_multiplier);
  keys.set_count("vocab_size", keys.spec.vocab);
  keys.set_count("rope.dimension_count", keys.spec.head_dim);
  keys.set("rope.scaling.type", std::string("none"));
}

void write_gemma(KeyWriter& keys) {
  leave_usual_base(keys);
  keys.expect_attention_scale(1 / std::sqrt(static_cast<double>(keys.spec.head_dim)));
}

void write_gemma2(KeyWriter& keys) {
  leave_usual_base(keys);
  expect_gemma_scale(keys, 46);
  const ModelSpec& spec = keys.spec;
  if (spec.attention_softcap == 0 || spec.logit_softcap == 0) {
    throw keys.refuse(
        "attn_logit_softcapping or final_logit_softcapping is missing, llama.cpp runs gemma2 with "
        "both only");
  }
  set_float(keys, "attn_logit_softcapping", spec.attention_softcap);
  set_float(keys, "final_logit_softcapping", spec.logit_softcap);
}

void write_gemma3(KeyWriter& keys) {
  expect_gemma_scale(keys, 62);
  if (keys.spec.logit_softcap != 0)
    set_float(keys, "final_logit_softcapping", keys.spec.logit_softcap);
}

void write_glm4(KeyWriter& keys) {
  keys.set_count("rope.dimension_count",
                 static_cast<int64_t>(2 * keys.spec.ropes.at(0).inverse_frequency.size()));
}

// The activation of its experts is fixed in llama.cpp.
void write_gpt_oss(KeyWriter& keys) {
  constexpr float kLimit = 7, kAlpha = 1.702f;
  if (keys.spec.glu_limit == kLimit && keys.spec.glu_alpha == kAlpha) return;
  throw keys.refuse(
      fmt::format("swiglu_limit {:.6g} and swiglu_alpha {:.6g}, llama.cpp runs "
                  "gpt_oss with {} and {} only",
                  keys.spec.glu_limit, keys.spec.glu_alpha, kLimit, kAlpha));
}

void write_granite(KeyWriter& keys) {
  const ModelSpec& spec = keys.spec;
  set_float(keys, "attention.scale", spec.attention_scale);
  set_float(keys, "embedding_scale", spec.embedding_multiplier);
  set_float(keys, "residual_scale", spec.residual_multiplier);
  set_float(keys, "logit_scale", keys.number(keys.config, "logits_scaling"));
}

// Layers of short convolutions have no keys.
void write_lfm2(KeyWriter& keys) {
  const ModelSpec& spec = keys.spec;
  keys.set_count("vocab_size", spec.vocab);
  keys.set_count("shortconv.l_cache",
                 static_cast<int64_t>(keys.number(keys.config, "conv_L_cache")));
  std::vector<int32_t> heads;
  for (const LayerSpec& layer : spec.layer) {
    const bool attends = layer.mixer == attention_mixer();
    heads.push_back(attends ? static_cast<int32_t>(spec.kv_heads) : 0);
  }
  GgufArray list{.type = 5, .numbers = std::vector<std::byte>(heads.size() * sizeof(int32_t))};
  std::ranges::copy(std::as_bytes(std::span(heads)), list.numbers.begin());
  keys.set("attention.head_count_kv", std::move(list));
}

void write_olmo2(KeyWriter& keys) {
  if (keys.spec.tied_head)
    throw keys.refuse("tie_word_embeddings is true, llama.cpp runs olmo2 with a head only");
}

void write_phi3(KeyWriter& keys) {
  const ModelSpec& spec = keys.spec;
  const auto width = static_cast<int64_t>(2 * spec.ropes.at(0).inverse_frequency.size());
  const std::string type = keys.rope_type();
  if (type == "linear" || type == "yarn")
    throw keys.refuse(fmt::format("rope of type '{}' is not written as GGUF for phi3", type));
  const bool has_length = keys.has("original_max_position_embeddings") ||
                          keys.rope().contains("original_max_position_embeddings");
  const int64_t length = has_length ? keys.original_length() : spec.max_positions;
  keys.set_count("rope.scaling.original_context_length", length);
  keys.set_count("rope.dimension_count", width);
  const int64_t window = spec.layer.empty() ? 0 : spec.layer[0].window;
  keys.set_count("attention.sliding_window", window);  // 0 tells Phi-4 from others
  if (type == "default") return;
  const double scale = static_cast<double>(spec.max_positions) / static_cast<double>(length);
  const double attention =
      scale > 1 ? std::sqrt(1 + std::log(scale) / std::log(static_cast<double>(length))) : 1;
  if (std::abs(spec.ropes[0].attention_factor / attention - 1) > 1e-5) {
    throw keys.refuse(
        fmt::format("longrope multiplies by {:.6g}, llama.cpp runs phi3 with {:.6g} "
                    "only",
                    spec.ropes[0].attention_factor, attention));
  }
  set_float(keys, "rope.scaling.attn_factor", attention);
  keys.make("rope_factors_long.weight", factors_of(keys, "long_factor", width / 2));
  keys.make("rope_factors_short.weight", factors_of(keys, "short_factor", width / 2));
}

// Positions in text, height and width turn pairs of a head in turns; llama.cpp leaves those alone
// that fall to none. The converter has {11, 11, 10} where config.json says nothing.
void write_rope_sections(KeyWriter& keys) {
  std::vector<int32_t> sections = {11, 11, 10};
  const auto found = keys.rope().find("mrope_section");
  if (found != keys.rope().end()) sections = found->get<std::vector<int32_t>>();
  if (sections.size() > 4) throw keys.refuse("mrope_section has more than four numbers");
  sections.resize(4);
  const auto pairs = static_cast<int32_t>(keys.spec.ropes.at(0).inverse_frequency.size());
  const int32_t sum = std::max(1, std::accumulate(sections.begin(), sections.end(), 0));
  for (int32_t i = 0; i < pairs; ++i) {
    const int32_t sector = i % sum;
    if (sector < 3 * sections[static_cast<size_t>(sector % 3)]) continue;
    throw keys.refuse(
        fmt::format("mrope_section [{}] leaves pair {} of {} without a position, "
                    "llama.cpp would not turn it",
                    fmt::join(sections, ", "), i, pairs));
  }
  GgufArray list{.type = 5, .numbers = std::vector<std::byte>(sections.size() * sizeof(int32_t))};
  std::ranges::copy(std::as_bytes(std::span(sections)), list.numbers.begin());
  keys.set("rope.dimension_sections", std::move(list));
  keys.set_count("rope.dimension_count", 2 * pairs);
}

// Linear attention and gated attention in turns.
void write_qwen35(KeyWriter& keys) {
  const auto size = [&](const char* key) {
    return static_cast<int64_t>(keys.number(keys.config, key));
  };
  const int64_t key_heads = size("linear_num_key_heads"), heads = size("linear_num_value_heads");
  const int64_t key_dim = size("linear_key_head_dim"), value_dim = size("linear_value_head_dim");
  if (key_dim != value_dim) {
    throw keys.refuse(fmt::format(
        "linear_key_head_dim is {}, linear_value_head_dim {}, llama.cpp runs {} with equal ones "
        "only",
        key_dim, value_dim, keys.spec.model_type));
  }
  keys.set_linear_heads({0, key_heads, heads / key_heads, value_dim});
  keys.set_count("ssm.conv_kernel", size("linear_conv_kernel_dim"));
  keys.set_count("ssm.state_size", key_dim);
  keys.set_count("ssm.group_count", key_heads);
  keys.set_count("ssm.time_step_rank", heads);
  keys.set_count("ssm.inner_size", value_dim * heads);
  GgufArray recurrent{.type = 7};  // bool
  for (const LayerSpec& layer : keys.spec.layer)
    recurrent.numbers.push_back(std::byte{layer.mixer != attention_mixer()});
  keys.set("attention.recurrent_layers", std::move(recurrent));
  const bool interval = keys.has("full_attention_interval");
  keys.set_count("full_attention_interval", interval ? size("full_attention_interval") : 4);
  write_rope_sections(keys);
}

// Every fourth layer is without rope.
void write_smollm3(KeyWriter& keys) {
  for (int64_t i = 0; i < keys.spec.layers; ++i) {
    const bool turns = keys.spec.layer[static_cast<size_t>(i)].rope != kNoRope;
    if (turns == ((i + 1) % 4 != 0)) continue;
    throw keys.refuse(fmt::format(
        "layer {} is {} rope, llama.cpp runs smollm3 without rope in every fourth layer only", i,
        turns ? "with" : "without"));
  }
}

void write_starcoder2(KeyWriter& keys) {
  if (!keys.spec.o_bias)
    throw keys.refuse("use_bias is false, llama.cpp runs starcoder2 with biases only");
}

}  // namespace lewis
