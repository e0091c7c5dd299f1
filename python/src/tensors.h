// Tensors of Python as input of a merge, and tensors of lewis for Python.
#pragma once

#include <nanobind/nanobind.h>

namespace lewis_python {

void bind_tensors(nanobind::module_& module);

}  // namespace lewis_python
