// The changes that a PEFT LoRA adapter makes, tensor by tensor.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "io/tensor_source.h"
#include "merge/sources/adapter_config.h"
#include "merge/sources/adapter_factors.h"

namespace lewis {

// The change of one tensor of the base.
struct AdapterChange {
  TensorInfo tensor;  // the tensor of the base; with more rows where the vocabulary was enlarged
  const SafetensorsFile::Entry* replaced = nullptr;  // the adapter's tensor that replaces it
  // The products that are added to it, which FactorCache reads: one, or one per expert of a tensor
  // [experts, rows, columns]. Null where none is. The experts of a layer share their places.
  std::shared_ptr<const FactorPlaces> factors;
  size_t part = 0;                   // of factors->experts->parts
  std::vector<float> magnitude;      // DoRA: a value per output; else empty
  bool outputs_are_columns = false;  // embeddings, fan_in_fan_out
  // Rows that are replaced (trainable_token_indices), by their numbers.
  std::map<int64_t, std::vector<float>> rows;
};

using AdapterChanges = std::map<std::string, AdapterChange>;  // by the name in the base

// Sorts the tensors of adapter_model.safetensors by what they change. Each must be used, belong to
// a tensor of `base` by any spelling of its name (io/tensor_names.h) and have the shape that this
// asks for; else Error(kInput) names it. Whole embeddings and heads may have more rows.
// Factors are proven to be finite, but not kept: the changes have their places in `file`, which
// must outlive them. `renamed`, where given, gets the number of tensors that are found by another
// spelling. A name in target_modules that the base has and the adapter has no key of is refused,
// too; `notes`, where given, gets a line where some of its modules have keys and others have none.
AdapterChanges read_adapter_changes(const TensorSource& base, const AdapterConfig& config,
                                    const SafetensorsFile& file, size_t* renamed = nullptr,
                                    std::vector<std::string>* notes = nullptr);

}  // namespace lewis
