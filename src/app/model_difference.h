// How two models differ, tensor by tensor and layer by layer.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/threads.h"
#include "io/checkpoint.h"
#include "io/compare.h"

namespace lewis {

struct ModelDifference {
  struct Tensor {
    std::string name;
    TensorDifference difference;
  };
  std::vector<Tensor> tensors;                 // largest relative change first
  std::map<int64_t, TensorDifference> layers;  // by layer; -1: outside of layers
  TensorDifference all;
  std::vector<std::string> only_a, only_b;
  std::vector<std::string> by_bytes;      // types without arithmetic: equal or not; one line each
  std::vector<std::string> not_compared;  // other shapes or types; one line each
};

ModelDifference compare_models(const Checkpoint& a, const Checkpoint& b, Threads& threads,
                               const ProgressFn& progress);

}  // namespace lewis
