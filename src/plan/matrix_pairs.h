// The part that most importances share: one number for base and expert of every covered matrix,
// summed up to modules and parts.
#pragma once

#include <functional>
#include <set>
#include <span>
#include <string>

#include "plan/covered.h"
#include "plan/plan.h"

namespace lewis {

// A matrix in both models.
struct MatrixPair {
  const CoveredMatrix &base, &expert;
};

// Square roots of sums: over the parts of a fused weight, over the experts in one tensor (those
// that saw few tokens count only where there are no others).
struct PairNorms {
  LayerValues base, expert;            // by module
  LayerValues base_part, expert_part;  // by matrix, where a module has several
  std::set<std::string> unsure;        // modules and parts of experts that saw few tokens
};

// `squares` returns the squared numbers {base, expert} of one matrix; plan.few_tokens is filled.
// Throws Error(kInput) when the statistics are not of the same text.
PairNorms norms_of_pairs(
    const ImportanceInput& input, ModelPlan& plan,
    const std::function<std::pair<double, double>(const MatrixPair& pair)>& squares);

// Rows [first, first + rows) of a matrix, widened; Error(kInput) where one is not finite.
std::vector<float> read_rows(const TensorSource& source, const CoveredMatrix& matrix, int64_t first,
                             int64_t rows);

// Sums `square` of pieces of rows (first, rows) of a matrix, on all threads, in the order of rows.
double sum_over_rows(int64_t rows, Threads& threads,
                     const std::function<double(int64_t first, int64_t rows)>& square);

// sum_j s_j ||values[:, j]||^2: double sums in the order of the elements.
double weighted_squares(std::span<const float> values, std::span<const double> s);

}  // namespace lewis
