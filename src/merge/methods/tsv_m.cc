// tsv_m: the leading singular vectors of every task vector, made orthogonal to those of the others
// (Gargiulo et al., "Task Singular Vectors", arXiv 2412.00081, section 4.3).
#include <algorithm>

#include "merge/common/task_matrices.h"

namespace lewis {
namespace {

// The first `count` columns of each, side by side.
DoubleMatrix leading_columns(const std::vector<SingularVectors>& parts,
                             const std::vector<int64_t>& count,
                             const DoubleMatrix SingularVectors::*side) {
  int64_t columns = 0;
  for (const int64_t n : count) columns += n;
  DoubleMatrix all((parts[0].*side).rows, columns);
  int64_t first = 0;
  for (size_t m = 0; m < parts.size(); first += count[m++]) {
    for (int64_t r = 0; r < all.rows; ++r) {
      for (int64_t c = 0; c < count[m]; ++c) all.at(r, first + c) = (parts[m].*side).at(r, c);
    }
  }
  return all;
}

DoubleMatrix merge(const TensorTask&, std::vector<DoubleMatrix> tau, Threads& threads) {
  const int64_t least = std::min(tau[0].rows, tau[0].columns);
  std::vector<SingularVectors> parts = singular_vectors(tau, threads);
  DoubleMatrix merged(tau[0].rows, tau[0].columns);
  tau.clear();
  std::erase_if(parts, [](const SingularVectors& p) { return p.values.empty(); });
  // Each model that changed the layer gets the same share of the directions.
  const int64_t share = std::max<int64_t>(1, least / static_cast<int64_t>(parts.size()));
  std::vector<int64_t> count;
  std::vector<double> values;
  for (const SingularVectors& p : parts) {
    count.push_back(std::min(share, static_cast<int64_t>(p.values.size())));
    values.insert(values.end(), p.values.begin(), p.values.begin() + count.back());
  }
  DoubleMatrix u = leading_columns(parts, count, &SingularVectors::u);
  DoubleMatrix v = leading_columns(parts, count, &SingularVectors::v);
  parts.clear();
  u = orthogonal_factor(u, threads);
  v = orthogonal_factor(v, threads);
  for (int64_t r = 0; r < u.rows; ++r) {
    for (int64_t c = 0; c < u.columns; ++c) u.at(r, c) *= values[static_cast<size_t>(c)];
  }
  add_product_transposed(u, v, merged, threads);
  return merged;
}

}  // namespace

extern const MergeMethod kTsvM = {
    .name = "tsv_m",
    .base = BaseRole::kApart,
    .min_models = 2,
    .about =
        "Keeps the leading singular vectors of each task vector of a linear layer, as many as the "
        "layer has for each model, makes those of different models orthogonal to each other, and "
        "adds them up with the singular values that they had. In other tensors, embeddings and "
        "head among them, the task vectors are averaged.",
    .paper = "Gargiulo et al., \"Task Singular Vectors\", arXiv 2412.00081, section 4.3",
    .model_parameters = {{"weight", 1}},
    .whole_parameters = {{"lambda", 1}},
    .survey = survey_matrices<merge>,
    .blend = blend_matrices,
    .matrices_held = [](size_t models) { return 7 * models + 7; }};

}  // namespace lewis
