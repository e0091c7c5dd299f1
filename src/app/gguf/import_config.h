// config.json of a GGUF model, made of its metadata.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/gguf/families/architecture.h"
#include "app/gguf/keys.h"
#include "base/json_fwd.h"

namespace lewis {

// What the tensors say that the metadata does not.
struct GgufTensorFacts {
  int64_t vocabulary = 0;  // rows of the embeddings
  bool tied_head = true;
  bool attention_bias = false, mlp_bias = false;
  int64_t expert_width = 0;         // rows of a routed expert's gate; 0: there is none
  int64_t shared_width = 0;         // the same of the shared expert
  std::string dtype = "float32";    // of most parameters
  std::vector<float> rope_factors;  // rope_freqs.weight
};

// The row of the exporter's table that a file of this architecture is read as: of several the
// first, since nothing tells them apart. Error(kInput) for an architecture that is not read.
const GgufArchitecture& model_type_of(const GgufKeys& keys);

struct ImportedConfig {
  JsonBox config;
  std::vector<std::string> notes;  // what cannot be known, or was left out; one line each
};
// Error(kInput) that names the key: missing, or beyond what a model of the family can say.
ImportedConfig import_config(const GgufKeys& keys, const GgufArchitecture& architecture,
                             const GgufTensorFacts& facts);

}  // namespace lewis
