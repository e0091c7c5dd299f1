// The methods that take the task vector of a linear layer as a matrix: they decompose it, and their
// survey holds the merged one whole.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "compute/decompositions.h"
#include "merge/method.h"

namespace lewis {

// The weight of a linear layer, [out, in]: a matrix that is no table of tokens and no head.
bool is_linear_layer(std::string_view name, const Shape& shape);

// The sum of a[i] * b[i] over all entries, in their order.
double inner_product(std::span<const double> a, std::span<const double> b);
// sum += factor a.
void add_to(const DoubleMatrix& a, double factor, DoubleMatrix& sum);

// Merges weight (model - base) of each model, the task vectors of a linear layer of which at least
// one is not zero.
using MergeMatrices = DoubleMatrix (*)(const TensorTask& task, std::vector<DoubleMatrix> tau,
                                       Threads& threads);

// Survey and blend of such a method: base + lambda times what `merge` makes of a linear layer. In
// all other tensors the task vectors are averaged, as the authors of these methods do.
// Error(kInput) where a value of a linear layer is not finite.
std::unique_ptr<Survey> survey_matrices(const TensorTask& task, const ChunkPass& pass,
                                        MergeMatrices merge);
template <MergeMatrices merge>
std::unique_ptr<Survey> survey_matrices(const TensorTask& task, const ChunkPass& pass) {
  return survey_matrices(task, pass, merge);
}
void blend_matrices(const TensorTask& task, const Survey& survey, const Chunk& chunk,
                    std::span<float> out);

}  // namespace lewis
