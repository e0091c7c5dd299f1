// Latent attention, with the experts of DeepSeek.
#include <cmath>
#include <span>

#include "model/families/family.h"
#include "model/mixer.h"
#include "model/rope.h"

namespace lewis {
namespace {

// Latent attention. yarn also makes scores larger, by mscale_all_dim.
void read_latent_attention(const ConfigReader& config, ModelSpec& spec) {
  const MixerPtr mixer = make_mixer("latent_attention", config);
  for (LayerSpec& layer : spec.layer) layer.mixer = mixer;
  const double dim =
      static_cast<double>(config.size("qk_nope_head_dim") + config.size("qk_rope_head_dim"));
  double scale = 1 / std::sqrt(dim);
  const auto rope = rope_object(config);
  if (rope && rope->text(rope->find("rope_type") ? "rope_type" : "type", "default") != "default" &&
      rope->find("mscale_all_dim") && rope->number("mscale_all_dim") != 0) {
    const double factor = rope->positive("factor");
    const double larger =
        factor <= 1 ? 1 : 0.1 * rope->number("mscale_all_dim") * std::log(factor) + 1;
    scale *= larger * larger;
  }
  spec.attention_scale = static_cast<float>(scale);
  if (config.boolean("rope_interleave", true)) spec.ropes[0].pairs = RopePairs::kNeighbours;
}

void read_deepseek_v2(const ConfigReader& config, ModelSpec& spec) {
  read_latent_attention(config, spec);
  spec.mlp_bias = config.boolean("mlp_bias", false);
  read_deepseek_experts(config, spec);
  ExpertsSpec& e = spec.experts;
  e.scaling = static_cast<float>(config.positive("routed_scaling_factor"));
  const std::string method = config.text("topk_method", "greedy");
  if (config.text("scoring_func", "softmax") != "softmax")
    throw config.refuse("scoring_func", "softmax");
  if (method == "group_limited_greedy") {
    read_groups(config, spec);
    e.group_score = GroupScore::kBest;
  } else if (method != "greedy") {
    throw config.refuse("topk_method", "greedy or group_limited_greedy");
  }
}

void read_deepseek_v3(const ConfigReader& config, ModelSpec& spec) {
  read_latent_attention(config, spec);
  read_deepseek_experts(config, spec);
  read_grouped_router(config, spec);
  expect_mtp_layers(config, spec);
}

// What rotates is a part of a head.
void rename_latent(std::string_view file, Json& all) {
  all["head_dim"] = ConfigReader(all, file).size("qk_rope_head_dim");
  all.erase("num_key_value_heads_");
}

// One dense layer, where no list says it.
void rename_glm4_moe_lite(std::string_view file, Json& all) {
  rename_latent(file, all);
  if (!all.contains("mlp_layer_types") || all["mlp_layer_types"].is_null())
    all["first_k_dense_replace"] = 1;
  else
    all.erase("first_k_dense_replace");
}

// Kimi K2 has the configuration class of DeepSeek V3.
constexpr std::string_view kDeepseekV3Defaults =
    R"({"vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432,
        "num_hidden_layers": 61, "num_attention_heads": 128, "max_position_embeddings": 4096,
        "moe_intermediate_size": 2048, "n_shared_experts": 1, "n_routed_experts": 256,
        "routed_scaling_factor": 2.5, "kv_lora_rank": 512, "q_lora_rank": 1536,
        "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128, "n_group": 8,
        "topk_group": 4, "num_experts_per_tok": 8, "first_k_dense_replace": 3})";

constexpr std::string_view kLatentKeys =
    "first_k_dense_replace kv_lora_rank moe_intermediate_size n_group n_routed_experts "
    "n_shared_experts rope_interleave routed_scaling_factor";

constexpr Family kDeepseeksRows[] = {
    {"deepseek_v2",
     R"({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
         "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
         "moe_intermediate_size": 1407, "n_shared_experts": 2, "n_routed_experts": 64,
         "routed_scaling_factor": 1, "kv_lora_rank": 512, "q_lora_rank": 1536,
         "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128,
         "first_k_dense_replace": 0})",
     kLatentKeys, read_deepseek_v2, "", rename_latent},
    {"deepseek_v3", kDeepseekV3Defaults, kLatentKeys, read_deepseek_v3, "", rename_latent},
    {"glm4_moe_lite",
     R"({"vocab_size": 154880, "hidden_size": 2048, "intermediate_size": 10240,
         "num_hidden_layers": 47, "num_attention_heads": 20, "num_key_value_heads": 20,
         "max_position_embeddings": 202752, "rms_norm_eps": 1e-5,
         "moe_intermediate_size": 1536, "n_shared_experts": 1, "n_routed_experts": 64,
         "routed_scaling_factor": 1.8, "kv_lora_rank": 512, "q_lora_rank": 768,
         "qk_rope_head_dim": 64, "v_head_dim": 256, "qk_nope_head_dim": 192, "n_group": 1,
         "topk_group": 1, "num_experts_per_tok": 4})",
     kLatentKeys, read_deepseek_v3, "", rename_glm4_moe_lite},
    {"kimi_k2", kDeepseekV3Defaults, kLatentKeys, read_deepseek_v3, "", rename_latent},
};

}  // namespace

extern const std::span<const Family> kDeepseeks;
constinit const std::span<const Family> kDeepseeks = kDeepseeksRows;

}  // namespace lewis
