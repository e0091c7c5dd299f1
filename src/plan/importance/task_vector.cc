// The output change that a task vector makes on the expert's calibration text, were the channels
// uncorrelated: || (W_expert - W_base) sqrt(s) ||_F with the expert's s (docs/lewis.md);
// then as norm_shift: divided by the sum over the layers of its component. Unlike norm_shift it
// sees a task vector that turns a weight without making it longer.
#include "plan/matrix_pairs.h"
#include "plan/normalization.h"
#include "plan/tables.h"

namespace lewis {

void task_vector_norm(const ImportanceInput& input, ModelPlan& plan) {
  const PairNorms norms = norms_of_pairs(input, plan, [&](const MatrixPair& pair) {
    const auto piece = [&](int64_t first, int64_t rows) {
      std::vector<float> values = read_rows(input.expert, pair.expert, first, rows);
      const std::vector<float> base = read_rows(input.base, pair.base, first, rows);
      for (size_t i = 0; i < values.size(); ++i) values[i] -= base[i];
      return weighted_squares(values, pair.expert.sums);
    };
    const double sum = sum_over_rows(pair.expert.rows, input.threads, piece);
    return std::pair(0.0, sum / pair.expert.divisor);
  });
  plan.importance = normalized_shift(norms.base, norms.expert, norms.unsure);
  plan.part_importance = normalized_shift(norms.base_part, norms.expert_part, norms.unsure);
}

}  // namespace lewis
