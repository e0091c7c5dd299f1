// How much the rounding error of each input channel counts, for the blocks of a GGUF file.
#pragma once

#include <lewis/gguf.h>

#include <map>
#include <string>
#include <vector>

#include "app/gguf/mix.h"
#include "app/run.h"
#include "io/gguf.h"
#include "io/tensor_source.h"

namespace lewis {

struct GgufImportances {
  // By tensor of the model: mean squares of its input, a number per column. Empty: nothing is
  // known.
  std::map<std::string, std::vector<float>> by_tensor;
  // quantize.imatrix.*, as llama-quantize writes them.
  GgufMetadata metadata;
};

// Those of `job.imatrix`, a statistics file or an importance matrix; else of the recipe that
// `job.model` is, if it calibrates: the mean over its experts, each on its own text, from the cache
// of statistics. Nothing for types whose scales are not searched for; a note where a file is given
// in vain. `source`: the model as it is written. Throws Error(kInput) for statistics of another
// model.
GgufImportances importances_of(const ConvertJob& job, const GgufMix& mix,
                               const TensorSource& source, RunResources& run);

}  // namespace lewis
