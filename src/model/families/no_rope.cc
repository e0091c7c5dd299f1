// Families some of whose layers have no rope.
#include <algorithm>
#include <span>

#include "io/layer_kinds.h"
#include "model/families/family.h"

namespace lewis {
namespace {

void read_smollm3(const ConfigReader& config, ModelSpec& spec) {
  read_llama(config, spec);
  config.size("no_rope_layer_interval");                                 // must be a number
  const std::vector<int64_t> listed = config.indices("no_rope_layers");  // 0: without rope
  if (!listed.empty() && static_cast<int64_t>(listed.size()) != spec.layers) {
    throw config.refuse("no_rope_layers", fmt::format("a list of {} layers", spec.layers));
  }
  for (size_t i = 0; i < spec.layer.size(); ++i) {
    const Json has_rope = layer_kind(config.json(), "no_rope_layers", static_cast<int64_t>(i));
    spec.layer[i].rope = has_rope != 0 ? 0 : kNoRope;
  }
  read_windows(config, spec);
}

// Layers without a window have no rope.
void read_cohere2(const ConfigReader& config, ModelSpec& spec) {
  spec.norm = {NormKind::kLayer, static_cast<float>(config.positive("layer_norm_eps"))};
  spec.norms = {"input_layernorm", "", "", ""};
  spec.parallel = true;
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  spec.logit_multiplier = static_cast<float>(config.positive("logit_scale"));
  spec.ropes[0].pairs = RopePairs::kNeighbours;
  config.size("sliding_window_pattern");  // must be a number
  read_windows(config, spec);
  for (LayerSpec& layer : spec.layer) layer.rope = layer.window ? 0 : kNoRope;
}

// Layers without a window have no rope, unless no layer has one.
void read_exaone4(const ConfigReader& config, ModelSpec& spec) {
  spec.qk_norm = QkNorm::kHead;
  spec.norms = {"", "post_attention_layernorm", "", "post_feedforward_layernorm"};
  read_windows(config, spec);
  if (!config.find("sliding_window")) return;
  for (LayerSpec& layer : spec.layer) layer.rope = layer.window ? 0 : kNoRope;
}

// Chunks; layers without rope, whose queries grow; experts that read what the router weighs.
void read_llama4(const ConfigReader& config, ModelSpec& spec) {
  spec.qkv_bias = spec.o_bias = config.boolean("attention_bias", false);
  spec.ropes[0].pairs = RopePairs::kNeighbours;
  if (config.boolean("use_qk_norm", true)) spec.qk_norm = QkNorm::kUnit;
  // Files of 2025 have a number, 4, which transformers took for true.
  const Json* tuning = config.find("attn_temperature_tuning");
  const bool tunes = tuning && tuning->is_number_integer()
                         ? *tuning != 0
                         : config.boolean("attn_temperature_tuning", true);
  if (tunes) {
    spec.query_scale_beta = static_cast<float>(config.number("attn_scale"));
    spec.query_scale_length = config.size("floor_scale");
    spec.query_scale_offset = 1;
    spec.scales_unturned_queries = true;
  }
  const std::vector<int64_t> listed = config.indices("no_rope_layers");
  if (!listed.empty() && static_cast<int64_t>(listed.size()) != spec.layers)
    throw config.refuse("no_rope_layers", fmt::format("a list of {} layers", spec.layers));
  config.size("no_rope_layer_interval");  // must be a number
  const auto kinds =
      config.find("layer_types")
          ? read_kinds(config, spec, "layer_types", {"full_attention", "chunked_attention"})
          : std::vector<std::string>();
  const int64_t chunk =
      config.find("attention_chunk_size") ? config.size("attention_chunk_size") : 0;
  for (size_t i = 0; i < spec.layer.size(); ++i) {
    const Json turns = layer_kind(config.json(), "no_rope_layers", static_cast<int64_t>(i));
    LayerSpec& layer = spec.layer[i];
    if (turns == 0) layer.rope = kNoRope;
    const bool chunked = kinds.empty() ? turns != 0 : kinds[i] == "chunked_attention";
    if (chunked && !kinds.empty() && chunk == 0)
      throw config.refuse("attention_chunk_size", "a size, as layer_types has chunked_attention");
    if (chunked) layer.chunk = chunk;
  }
  spec.mlp_place = "feed_forward.";
  read_experts(config, spec);
  ExpertsSpec& e = spec.experts;
  e.intermediate = e.shared_intermediate = spec.intermediate;
  e.router = Router::kSigmoid;
  e.scales_input = true;
  e.module = "feed_forward";
  e.gate_name = "router";
  e.shown_split = true;
  e.shared = "feed_forward.shared_expert.";
  e.shared_switch = "";
  spec.intermediate = config.size("intermediate_size_mlp");
  const int64_t step = config.size("interleave_moe_layer_step");
  const std::vector<int64_t> routed = config.indices("moe_layers");
  for (int64_t i = 0; i < spec.layers; ++i) {
    spec.layer[static_cast<size_t>(i)].routed = config.find("moe_layers")
                                                    ? std::ranges::find(routed, i) != routed.end()
                                                    : (i + 1) % step == 0;
  }
}

constexpr Family kWithoutRopeRows[] = {
    {"cohere2",
     R"({"vocab_size": 256000, "hidden_size": 8192, "intermediate_size": 22528,
         "num_hidden_layers": 40, "num_attention_heads": 64, "max_position_embeddings": 8192,
         "layer_norm_eps": 1e-5, "logit_scale": 0.0625, "sliding_window": 4096,
         "sliding_window_pattern": 4})",
     "logit_scale sliding_window sliding_window_pattern", read_cohere2},
    {"exaone4",
     R"({"vocab_size": 102400, "hidden_size": 4096, "intermediate_size": 16384,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
         "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "sliding_window": 4096,
         "sliding_window_pattern": 4})",
     "sliding_window sliding_window_pattern", read_exaone4},
    {"llama4_text",
     R"({"vocab_size": 202048, "hidden_size": 5120, "intermediate_size": 8192,
         "intermediate_size_mlp": 16384, "num_hidden_layers": 48, "num_attention_heads": 40,
         "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 131072,
         "rms_norm_eps": 1e-5, "rope_theta": 500000, "num_experts": 16,
         "num_experts_per_tok": 1,
         "interleave_moe_layer_step": 1, "no_rope_layer_interval": 4,
         "attention_chunk_size": 8192, "floor_scale": 8192, "attn_scale": 0.1})",
     "attention_chunk_size interleave_moe_layer_step layer_types moe_layers "
     "no_rope_layer_interval no_rope_layers num_experts use_qk_norm",
     read_llama4},
    {"smollm3",
     R"({"vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 11008,
         "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 4,
         "max_position_embeddings": 32768, "rope_theta": 2000000, "no_rope_layer_interval": 4})",
     "no_rope_layer_interval no_rope_layers sliding_window use_sliding_window", read_smollm3},
};

}  // namespace

extern const std::span<const Family> kWithoutRope;
constinit const std::span<const Family> kWithoutRope = kWithoutRopeRows;

}  // namespace lewis
