// What `lewis inspect` prints of tensors, whatever the format.
#pragma once

#include <span>
#include <string>

#include "base/threads.h"
#include "cli/terminal.h"
#include "io/tensor_source.h"

namespace lewis {

struct InspectedTensor {
  std::string name, type;
  Shape shape;
};
// A line per kind of tensors: those that repeat layer by layer are one.
TerminalText tensors_table(std::span<const InspectedTensor> tensors);

// Type, shape and, where there are some, the values of a tensor. `type`: as it is stored.
void print_tensor(const TensorSource& source, const TensorInfo& tensor, const std::string& type,
                  bool json, Threads& threads);

}  // namespace lewis
