// How much the activation-weighted norm of a layer moved (LEWIS, arXiv 2503.03874, section 3;
// docs/lewis.md): n(c, l) = || |W| sqrt(s) ||_F = sqrt(sum_j s_j ||W[:, j]||^2) for base and
// expert, delta = |n_expert - n_base|, divided by the sum over the layers of its component.
#include "plan/matrix_pairs.h"
#include "plan/normalization.h"
#include "plan/tables.h"

namespace lewis {

void norm_shift(const ImportanceInput& input, ModelPlan& plan) {
  // n^2 of one matrix.
  const auto squared = [&](const TensorSource& source, const CoveredMatrix& matrix) {
    const auto piece = [&](int64_t first, int64_t rows) {
      return weighted_squares(read_rows(source, matrix, first, rows), matrix.sums);
    };
    return sum_over_rows(matrix.rows, input.threads, piece) / matrix.divisor;
  };
  const PairNorms norms = norms_of_pairs(input, plan, [&](const MatrixPair& pair) {
    return std::pair(squared(input.base, pair.base), squared(input.expert, pair.expert));
  });
  plan.base_norm = norms.base;
  plan.expert_norm = norms.expert;
  plan.importance = normalized_shift(norms.base, norms.expert, norms.unsure);
  plan.part_importance = normalized_shift(norms.base_part, norms.expert_part, norms.unsure);
}

}  // namespace lewis
