// A model whose tensors are shown in another way: under other names, twice, or not at all.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/tensor_source.h"

namespace lewis {

using SourcePtr = std::shared_ptr<const TensorSource>;

// A tensor of a source under the name by which it is shown.
struct ShownTensor {
  std::string name;
  const TensorInfo* stored = nullptr;
};

// Shows exactly these tensors of the source; the names must differ.
SourcePtr show_tensors(SourcePtr source, std::vector<ShownTensor> tensors);

// Leaves out the tensors for which `leave_out` is true.
SourcePtr without_tensors(SourcePtr source,
                          const std::function<bool(const TensorInfo&)>& leave_out);

// Shows a tensor a second time, as `name`.
SourcePtr with_copy(SourcePtr source, const TensorInfo& tensor, const std::string& name);

// Shows a model's tensors by the names that they have in `main`, where those differ from its own
// only in spelling (io/tensor_names.h). `renamed`: how many those are, and the first of them.
struct Respelled {
  SourcePtr source;
  size_t renamed = 0;
  std::string first, first_in_main;
};
Respelled respelled(SourcePtr source, const TensorSource& main);

}  // namespace lewis
