// The interface of everything that has tensors (include/lewis/tensor_source.h).
#pragma once

#include <lewis/tensor_source.h>

#include "base/tensor.h"
