// A recipe merged on demand: every tensor is merged when it is read. Nothing is written.
#pragma once

#include "merge/input_model.h"

namespace lewis {

// Opens the merge of a recipe without calibration as a model that can be read: the tensors that
// merge() would write, bit for bit, config.json, and the tokenizer files of its main model. The
// tensor that was read last is kept, so that reading it in pieces merges it once. The first
// tensors, up to options.keep_bytes of them, are kept as well, since running a model reads all
// tensors in turn, again and again, and a tied embedding at both ends. Throws the errors of
// MergeInputs and merge_tensor.
InputModel open_stage(const Recipe& recipe, const OpenOptions& options);

}  // namespace lewis
