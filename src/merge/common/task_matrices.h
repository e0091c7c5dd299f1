// The methods that take the task vector of a linear layer as a matrix: they decompose it, and their
// survey holds the merged one whole.
#pragma once

#include <memory>
#include <vector>

#include "compute/decompositions.h"
#include "merge/method.h"

namespace lewis {

// The weight of a linear layer, [out, in]: a matrix that is no table of tokens and no head.
bool is_linear_layer(std::string_view name, const Shape& shape);

// weight (model - base) for each model. Error(kInput) where a value is not finite.
std::vector<DoubleMatrix> weighted_task_matrices(const TensorTask& task, const ChunkPass& pass);

// Merges the weighted task vectors of a linear layer, of which at least one is not zero.
using MergeMatrices = DoubleMatrix (*)(const TensorTask& task, std::vector<DoubleMatrix> tau,
                                       Threads& threads);

// Survey and blend of such a method: base + lambda times what `merge` makes of a linear layer. In
// all other tensors the task vectors are averaged, as the authors of these methods do.
std::unique_ptr<Survey> survey_matrices(const TensorTask& task, const ChunkPass& pass,
                                        MergeMatrices merge);
void blend_matrices(const TensorTask& task, const Survey& survey, const Chunk& chunk,
                    std::span<float> out);

}  // namespace lewis
