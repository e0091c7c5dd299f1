// Made-up diagnostics of a merge, and names of its models.
#pragma once

#include <string>
#include <vector>

#include "merge/diagnostics.h"

namespace lewis {

inline MergeDiagnostics some_diagnostics(size_t models, int layers,
                                         const std::string& mlp = "mlp") {
  MergeDiagnostics d;
  d.trims = true;
  for (size_t m = 0; m < models; ++m) d.models.push_back("models/expert" + std::to_string(m));
  for (int l = 0; l < layers; ++l) {
    for (const std::string& name :
         {std::string("self_attn.q_proj"), std::string("self_attn.o_proj"), mlp + ".gate_proj",
          mlp + ".up_proj", mlp + ".down_proj"}) {
      TensorDiagnostics t;
      t.name = "model.layers." + std::to_string(l) + "." + name + ".weight";
      t.shape = {2, 2};
      for (size_t m = 0; m < models; ++m)
        t.models.push_back({4, 2, 1.0 + static_cast<double>(m) + l, 0.5, 0.7, 100});
      t.pairs.assign(models * (models - 1) / 2, {4, 1, 2, 1, 0.25});
      d.tensors.push_back(t);
    }
  }
  return d;
}

inline std::vector<std::string> titles(size_t models) {
  std::vector<std::string> t;
  for (size_t m = 0; m < models; ++m) t.push_back("expert" + std::to_string(m));
  return t;
}

}  // namespace lewis
