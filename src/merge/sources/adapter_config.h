// adapter_config.json of a PEFT LoRA adapter.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "merge/sources/module_pattern.h"

namespace lewis {

// Ways in which programs have read adapters wrongly. A proof reads the adapter so to name the
// mistake in a merged model (merge/adapter_proof.h); merging never does.
enum class Misreading {
  kNone,
  kOtherLayout,  // lora_B is taken for [rank, out]; of experts, (rank, expert) for (expert, rank)
  kTransposed,   // the product is added as its transpose (square matrices)
  kNoMagnitude,  // DoRA's magnitudes are left out
};

struct AdapterConfig {
  // A value for the modules whose name, or the end of it behind a dot, matches.
  struct Pattern {
    ModulePattern name;
    double value = 0;
  };

  std::filesystem::path file;
  int64_t rank = 0;
  double alpha = 0;
  std::vector<Pattern> ranks, alphas;  // exceptions; the first that matches counts
  bool rank_stabilized = false;        // use_rslora
  bool dora = false;                   // use_dora
  bool fan_in_fan_out = false;         // weights are [in, out]
  bool bias = false;                   // lora_bias: lora_B has a bias
  bool keeps_ties = false;             // ensure_weight_tying: head and embeddings stay one
  // The modules that were trained, as names or ends of names; empty where an expression or
  // "all-linear" says it, or where some of their layers are left out.
  std::vector<std::string> target_modules;
  std::vector<std::string> target_parameters;  // parameters that are changed as a whole
  // trainable_token_indices: the rows of an embedding that were trained, by the name of its module
  // or the end of it; "" stands for the one embedding that has such rows.
  std::map<std::string, std::vector<int64_t>> tokens;
  std::string peft_version;  // empty before PEFT 0.18
  Misreading misreading = Misreading::kNone;
  bool mlx = false;  // written by mlx-lm: A is [in, r], B [r, out], both as they multiply

  int64_t rank_of(const std::string& module) const;
  // alpha / rank, or alpha / sqrt(rank) when rank-stabilized (arXiv 2312.03732).
  double scale_of(const std::string& module) const;
  // The rows of a module that were trained; null where the file lists none.
  const std::vector<int64_t>* tokens_of(std::string_view module) const;
};

// Reads PEFT's keys, or those of mlx-lm where the file has fine_tune_type or lora_parameters.
// Throws Error(kInput) that names file and key: a peft_type that is not LORA, or a key that is set
// and changes what the adapter means in a way that is not known here. Keys that only say how it
// was trained are accepted.
AdapterConfig read_adapter_config(const std::filesystem::path& folder);

}  // namespace lewis
