#include "app/gguf/families/own_keys.h"

#include <fmt/format.h>

#include <cmath>

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

void write_granite(KeyWriter& keys) {
  const ModelSpec& spec = keys.spec;
  set_float(keys, "attention.scale", spec.attention_scale);
  set_float(keys, "embedding_scale", spec.embedding_multiplier);
  set_float(keys, "residual_scale", spec.residual_multiplier);
  set_float(keys, "logit_scale", keys.number(keys.config, "logits_scaling"));
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
