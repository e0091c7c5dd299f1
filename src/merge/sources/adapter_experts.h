// LoRA of whole parameters (PEFT's target_parameters). transformers keeps a layer's experts as one
// parameter [experts, rows, columns]; files have it so or with a matrix per expert.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/tensor_names.h"
#include "merge/sources/adapter_config.h"
#include "merge/sources/low_rank.h"

namespace lewis {

// A parameter of a module, and where the base stores it.
struct WrappedParameter {
  // A stored tensor: a matrix of one expert, or the whole parameter.
  struct Part {
    const TensorInfo* tensor = nullptr;
    int64_t expert = 0;     // the first one
    int64_t experts = 1;    // how many the tensor holds
    int64_t first_row = 0;  // where its rows begin in the expert's matrix of the parameter
    int64_t rows = 0;
  };
  std::string key;  // "model.layers.0.mlp.experts.gate_up_proj", which rank_pattern is matched with
  int64_t experts = 0, rows = 0, columns = 0;  // as transformers holds it
  // Whether the inputs are the rows (gpt-oss, Llama 4) or the columns; nothing where the base does
  // not tell.
  std::optional<bool> inputs_are_rows;
  std::vector<Part> parts;
};

// The parameters of `module` that target_parameters names and that have three dimensions, in the
// order in which PEFT wraps them: the first is the innermost. Throws Error(kInput) when `base`
// holds experts of different shapes, or when the order of several parameters is not known.
std::vector<WrappedParameter> wrapped_parameters(const AdapterConfig& config, const NameIndex& base,
                                                 const std::string& module);

// Returns the name under which PEFT looks up the rank and alpha of a module: with ".weight" behind
// it where target_parameters names that parameter.
std::string pattern_key(const AdapterConfig& config, const std::string& module);

// Returns whether the columns of lora_A [rank * experts, a] stand for the rows of a parameter's
// matrices, where lora_B is [b, rank * experts]. PEFT before 0.19 takes the rows for the inputs
// whatever they are. Throws Error(kInput) without a place for shapes that do not fit, and where
// neither shapes nor peft_version tell.
bool inputs_of_adapter_are_rows(const AdapterConfig& config, const WrappedParameter& parameter,
                                int64_t a, int64_t b);

// B [outputs, rank, experts] as a reader sees it who takes it for [outputs, experts, rank].
std::vector<float> with_experts_first(std::span<const float> b, int64_t rank, int64_t experts);

// The factors of the experts of one part. `a` is [experts, rank, inputs] and `b` [outputs, rank,
// experts], as PEFT stores them (peft/tuners/lora/layer.py, ParamWrapper.get_delta_weight).
std::vector<LowRank> expert_factors(const WrappedParameter& parameter,
                                    const WrappedParameter::Part& part, std::span<const float> a,
                                    std::span<const float> b, int64_t rank, float scale,
                                    bool inputs_are_rows);

}  // namespace lewis
