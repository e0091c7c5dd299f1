// Names, types and shapes of tensors, without their values (include/lewis/tensor.h).
#pragma once

#include <lewis/tensor.h>

#include "base/dtype.h"
