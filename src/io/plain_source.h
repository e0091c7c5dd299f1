// A checkpoint as plain numbers that can be computed with, whatever types it is stored in.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "io/checkpoint.h"
#include "io/tensor_source.h"

namespace lewis {

struct PlainModel {
  std::shared_ptr<const TensorSource> source;
  std::vector<std::string> notes;  // one line for each kind of change
  // config.json speaks of a quantisation that `source` does not have (remove_quantization).
  bool was_quantized = false;
};

// Casts floats of odd types (io/cast_source.h) and shows quantised weights as the bfloat16 values
// that they stand for (io/quantized_source.h). `config`: config.json, {} where there is none.
// Throws Error(kInput) as those do, and for packed integers.
PlainModel show_plain(std::shared_ptr<const TensorSource> source, const Json& config);

// The same for a folder that was opened. Where its config.json names no quantisation that is
// understood and tensors need one, all are as they are stored, and a note says so.
PlainModel show_plain(std::shared_ptr<const Checkpoint> model);

}  // namespace lewis
