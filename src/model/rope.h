// Rotary position embeddings as config.json describes them.
#pragma once

#include "model/config_reader.h"
#include "model/model_spec.h"

namespace lewis {

// rope_parameters (transformers 5) or rope_scaling (transformers 4), or nothing. Error(kInput) when
// both are there and differ.
std::optional<ConfigReader> rope_object(const ConfigReader& config);

// Reads one rope: `rope` is the object that rope_object gives, or the part of it for one kind of
// layers; `theta` counts where it has no rope_theta. Types: default, linear, dynamic, yarn,
// longrope, llama3. `own_keys`: keys that the family has besides, between blanks; "alpha" makes a
// dynamic rope one of a larger theta, and with "mrope_section" the type mrope, which turns text as
// default does, is known. Throws Error(kInput) that names the key: another type, a parameter that
// is missing, makes no sense or is not known.
RopeSpec read_rope(const ConfigReader& config, const std::optional<ConfigReader>& rope,
                   int64_t head_dim, double theta, std::string_view own_keys = "");

// theta^(-2i / dim) for i in [0, dim / 2), in the steps of rounding that transformers takes: the
// frequencies before any scaling.
std::vector<float> default_frequencies(double theta, int64_t dim);

// What multiplies cos and sin for a sequence of `length` positions.
float rope_attention_factor(const RopeSpec& rope, int64_t length);

}  // namespace lewis
