// trim: activation. Inside a tensor the merge keeps the entries of the task vector with the largest
// |d_ij| sqrt(s_j), as Wanda ranks weights (Sun et al., arXiv 2306.11695), with s of the expert's
// run on its text.
#include <cmath>

#include "plan/covered.h"
#include "plan/tables.h"

namespace lewis {

ColumnFactorMap activation_factors(const ImportanceInput& input) {
  ColumnFactorMap factors;
  for (const CoveredMatrix& m : covered_matrices(input.expert, input.expert_statistics)) {
    ColumnFactors& f = factors[m.tensor->name];
    const int64_t columns = m.tensor->shape.back();
    // Parts of a fused weight have the same inputs; each expert in one tensor has its own.
    const bool stacked = m.tensor->shape.size() == 3;
    const int64_t rows = element_count(m.tensor->shape) / columns;
    f.columns = columns;
    f.rows = stacked ? m.tensor->shape[1] : rows;
    f.values.resize(static_cast<size_t>(rows / f.rows * columns));
    const int64_t matrix = stacked ? m.first_row / f.rows : 0;
    for (size_t j = 0; j < m.sums.size(); ++j) {
      f.values[static_cast<size_t>(matrix * columns) + j] =
          static_cast<float>(std::sqrt(m.sums[j] / m.divisor));
    }
  }
  return factors;
}

}  // namespace lewis
