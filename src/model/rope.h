// Rotary position embeddings as config.json describes them.
#pragma once

#include "model/config_reader.h"
#include "model/model_spec.h"

namespace lewis {

// Reads rope_parameters (transformers 5) or rope_theta and rope_scaling (transformers 4).
// Throws Error(kInput) that names the key: a type other than default, linear and llama3, a
// parameter that is missing, makes no sense or is not known.
RopeSpec read_rope(const ConfigReader& config, int64_t rotary_dim, double default_theta);

}  // namespace lewis
