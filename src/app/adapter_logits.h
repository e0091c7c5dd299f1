// Logits of a base with an adapter beside its linear layers, at run time.
#pragma once

#include <lewis/proof.h>

#include "app/run.h"
#include "merge/input_model.h"

namespace lewis {

// What the logits are compared for. `base`, `adapted` and `stored` are as in ProofModels.
struct LogitModels {
  const InputModel& base;
  const InputModel& adapted;
  const InputModel& stored;
  std::filesystem::path adapter;
  uint64_t changed = 0;  // tensors that the adapter changes
};

// Runs eight built-in texts, a few dozen tokens each, through the base, whose linear layers get
// scale B (A x) added to their outputs (with DoRA, all times magnitude / norm), and through the
// stored model, in float32 both. (A model without a tokenizer gets random tokens.) What is no
// linear layer of a block (embeddings, norms, head, biases, whole tensors) and what the adapter
// cannot be read for layer by layer is merged in float32 for the first. `rounding_*` compare the
// adapter merged in float32 with the same rounded to the stored type. A model that cannot be run
// gives `why_not`.
LogitProof compare_logits(const LogitModels& models, RunResources& run);

}  // namespace lewis
