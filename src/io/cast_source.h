// A head, embeddings or norms that are stored in a float type of their own: float64, or float8
// beside weights of another type, without scales.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/tensor_source.h"

namespace lewis {

struct CastModel {
  std::shared_ptr<const TensorSource> source;
  std::vector<std::string> cast;  // the names of the tensors that have another type now
};

// Shows float64 heads, embeddings and norms as F32, each value rounded once, and float8 ones that
// have no scale as BF16, which has all their values. Everything else is passed through.
CastModel cast_odd_floats(std::shared_ptr<const TensorSource> source);

// Shows tensors by their names in arithmetic types of the caller's choice, each value rounded once.
// They must be of an arithmetic type, float64 or float8. Everything else is passed through.
std::shared_ptr<const TensorSource> shown_as(std::shared_ptr<const TensorSource> source,
                                             const std::map<std::string, DType>& types);

}  // namespace lewis
