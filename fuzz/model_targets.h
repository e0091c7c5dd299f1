// Targets of targets.cc that read what stands beside a model's weights, and what a model answers.
#pragma once

#include <string_view>

#include "targets.h"

namespace lewis {

// config.json, for all who read it: the forward pass, quantization, the head, the kinds of layers.
void read_config(std::string_view bytes, const FuzzFolder& folder);
// The tensors of a LoRA adapter, applied to a small model.
void apply_adapter(std::string_view bytes, const FuzzFolder& folder);
// The first line is a config.json, the others a shard with quantised weights.
void read_quantized(std::string_view bytes, const FuzzFolder& folder);
// The first line is a row of ifeval, the others are an answer.
void judge_answer(std::string_view bytes, const FuzzFolder& folder);
// A tokenizer.json, united with another one.
void unite_tokenizers(std::string_view bytes, const FuzzFolder& folder);

}  // namespace lewis
