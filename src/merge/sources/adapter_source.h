// A model with a PEFT LoRA adapter, as if the two had been merged and saved.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "io/tensor_source.h"
#include "merge/sources/adapter_changes.h"

namespace lewis {

// A model with the adapter, and what the adapter does to the model as a whole.
struct AdaptedModel {
  std::shared_ptr<const TensorSource> source;
  std::vector<std::string> changed;  // the names of the tensors of `base` that it changes
  size_t renamed = 0;                // those that it spells otherwise (io/tensor_names.h)
  std::vector<std::string> notes;    // on what it leaves as it is, one line each
  bool keeps_ties = false;           // ensure_weight_tying, or only tokens of embeddings change
};
// Shows the tensors of `base` (same names and types; same shapes, but for embeddings and a head
// that the adapter gives more rows) with the adapter applied while they are read, in float, rounded
// once:
//   W' = W + scale B A               LoRA (arXiv 2106.09685), scale = alpha / r or alpha / sqrt(r)
//   W' = m (W + scale B A) / |W + scale B A|   DoRA (arXiv 2402.09353), norm and m per output
//   b' = b + scale lora_B.bias       lora_bias
//   W'[t] = the trained row of token t         trainable_token_indices
// Whole tensors in the adapter (modules_to_save, trained biases, saved embeddings) replace those of
// the base. Embeddings and fan_in_fan_out weights are [in, out]; their outputs are columns.
// A and B are read with the tensor that they change, and the last few are kept. A first read of a
// DoRA tensor whose outputs are columns reads the whole tensor for the norms. Throws Error(kInput)
// that names file and tensor or key: a pickle, a variant that is not known, a tensor that belongs
// to none of the base or has another shape, one that is left over. Reading throws the same when a
// norm that DoRA divides by is 0.
AdaptedModel adapt(std::shared_ptr<const TensorSource> base,
                   const std::filesystem::path& adapter_folder,
                   Misreading misreading = Misreading::kNone);

// What the adapter changes in `base`, without applying it, and its configuration.
struct ReadAdapter {
  AdapterConfig config;
  AdapterChanges changes;                 // whole tensors of the adapter are not among them
  std::unique_ptr<FactorCache> products;  // of the changes
};
ReadAdapter read_adapter(const TensorSource& base, const std::filesystem::path& adapter_folder);

// A hash that changes when the adapter does, as Checkpoint::fingerprint: SHA-256 over the size,
// time of change and header of adapter_model.safetensors and the bytes of adapter_config.json.
std::string adapter_fingerprint(const std::filesystem::path& adapter_folder);

}  // namespace lewis
