// Mixtures of experts: how many, which layers have them, and how a router chooses.
#include <algorithm>

#include "model/families/family.h"

namespace lewis {

void read_experts(const ConfigReader& config, ModelSpec& spec) {
  ExpertsSpec& e = spec.experts;
  e.count = config.parts("num_experts");
  e.chosen = config.size("num_experts_per_tok");
  if (e.chosen > e.count) {
    throw config.refuse("num_experts_per_tok", fmt::format("at most {} (num_experts)", e.count));
  }
  for (LayerSpec& layer : spec.layer) layer.routed = true;
}

void read_mixtral_experts(const ConfigReader& config, ModelSpec& spec) {
  read_experts(config, spec);
  spec.experts.intermediate = spec.intermediate;
  spec.experts.module = "block_sparse_moe";
  spec.experts.names = {"w1", "w3", "w2"};
}

void read_groups(const ConfigReader& config, ModelSpec& spec) {
  ExpertsSpec& e = spec.experts;
  e.groups = config.parts("n_group");
  e.chosen_groups = config.parts("topk_group");
  if (e.count % e.groups != 0) {
    throw config.refuse("n_group", fmt::format("a divisor of the {} experts", e.count));
  }
  if (e.chosen_groups > e.groups || e.chosen > e.chosen_groups * (e.count / e.groups)) {
    throw config.refuse("topk_group", fmt::format("groups, of {}, that hold {} experts together",
                                                  e.groups, e.chosen));
  }
}

void read_grouped_router(const ConfigReader& config, ModelSpec& spec) {
  ExpertsSpec& e = spec.experts;
  e.router = Router::kSigmoid;
  e.correction = "gate.e_score_correction_bias";
  e.normalize = config.boolean("norm_topk_prob", true);
  e.scaling = static_cast<float>(config.positive("routed_scaling_factor"));
  if (config.text("scoring_func", "sigmoid") != "sigmoid")
    throw config.refuse("scoring_func", "sigmoid");
  read_groups(config, spec);
}

void read_deepseek_experts(const ConfigReader& config, ModelSpec& spec) {
  ExpertsSpec& e = spec.experts;
  e.count = config.parts("n_routed_experts");
  e.chosen = config.size("num_experts_per_tok");
  if (e.chosen > e.count) {
    throw config.refuse("num_experts_per_tok",
                        fmt::format("at most {} (n_routed_experts)", e.count));
  }
  e.intermediate = config.size("moe_intermediate_size");
  e.shared = "mlp.shared_experts.";
  e.shared_switch = "";
  e.shared_intermediate = e.intermediate * config.parts("n_shared_experts");
  if (config.find("moe_layer_freq") && *config.find("moe_layer_freq") != 1)
    throw config.refuse("moe_layer_freq", "1: transformers does not read it");
  if (config.find("mlp_layer_types")) {
    const auto kinds = read_kinds(config, spec, "mlp_layer_types", {"dense", "sparse"});
    for (size_t i = 0; i < kinds.size(); ++i) spec.layer[i].routed = kinds[i] == "sparse";
    return;
  }
  const int64_t dense = config.count("first_k_dense_replace");
  for (int64_t i = dense; i < spec.layers; ++i) spec.layer[static_cast<size_t>(i)].routed = true;
}

}  // namespace lewis
