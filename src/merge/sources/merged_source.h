// A recipe merged on demand: every tensor is merged when it is read. Nothing is written.
#pragma once

#include "merge/input_model.h"

namespace lewis {

// What a recipe without calibration merges, as a model that can be read: the tensors that merge()
// would write, bit for bit, its config.json, and the tokenizer files of its main model. The tensor
// read last is kept, so that reading it in pieces merges it once; and the first tensors, up to
// options.keep_bytes of them, stay: who runs a model asks for all tensors in turn, time and again,
// and for a tied embedding at both ends. Errors as MergeInputs and merge_tensor have them.
InputModel open_stage(const Recipe& recipe, const OpenOptions& options);

}  // namespace lewis
