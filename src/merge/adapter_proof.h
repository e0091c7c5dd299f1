// Whether a model holds an adapter, tensor by tensor: the stored change against the wanted one.
#pragma once

#include <lewis/proof.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/threads.h"
#include "merge/input_model.h"

namespace lewis {

// The models that a proof compares. Their names are those of `base`.
struct ProofModels {
  const InputModel& base;     // without the adapter
  const InputModel& adapted;  // with it, its changed tensors as F32 (OpenOptions::adapted_as_f32)
  const InputModel& stored;   // what is to hold it
  const AdapterConfig& config;
  // The base with the adapter as a wrong reading of it has it; null where it cannot be read so.
  std::function<std::shared_ptr<const TensorSource>(Misreading)> misread;
};

// Compares every tensor in pieces, so that a few MiB per thread are in memory. Fills `tensors`,
// `changed`, `proven`, `error`, `rounding` and `holds`; the same bits for any number of threads.
// Tensors of types without arithmetic are left out. Throws Error(kInput) for bytes that cannot be
// read.
void prove_tensors(const ProofModels& models, Threads& threads, const ProgressFn& progress,
                   AdapterProof& proof);

// What is found, for people: one line on the tensors, and one on rounding.
std::vector<std::string> describe_tensors(const AdapterProof& proof, std::string_view type);

}  // namespace lewis
