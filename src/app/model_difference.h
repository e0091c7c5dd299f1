// How two models differ, tensor by tensor and layer by layer.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/progress.h"
#include "base/threads.h"
#include "io/compare.h"
#include "io/tensor_source.h"

namespace lewis {

struct ModelDifference {
  struct Tensor {
    std::string name;
    TensorDifference difference;
  };
  std::vector<Tensor> tensors;  // largest relative change first
  // By stack of layers ("model.layers.") and layer; outside of layers: "" and -1.
  std::map<std::pair<std::string, int64_t>, TensorDifference> layers;
  // A layer for people: "3", "outside"; with several stacks "vision_tower.layers.3".
  std::string name_of(const std::pair<std::string, int64_t>& layer) const;
  TensorDifference all;
  std::vector<std::string> only_a, only_b;
  std::vector<std::string> by_bytes;      // types without arithmetic: equal or not; one line each
  std::vector<std::string> not_compared;  // other shapes or types; one line each
};

ModelDifference compare_models(const TensorSource& a, const TensorSource& b, Threads& threads,
                               const ProgressFn& progress);

}  // namespace lewis
