// iso_c: the sum of the task vectors with equal singular values, so that no direction of one model
// drowns those of others (Marczak et al., "No Task Left Behind", arXiv 2502.04959, section 4.1):
// U V^T times the mean of the singular values.
#include "merge/common/task_matrices.h"

namespace lewis {
namespace {

DoubleMatrix merge(const TensorTask&, std::vector<DoubleMatrix> tau, Threads& threads) {
  DoubleMatrix sum = std::move(tau[0]);
  for (size_t m = 1; m < tau.size(); ++m) add_to(tau[m], 1, sum);
  tau.clear();
  DoubleMatrix factor = orthogonal_factor(sum, threads);
  // The sum of the singular values is the trace of factor^T sum.
  const double values = inner_product(factor.values, sum.values);
  const double mean = values / static_cast<double>(std::min(sum.rows, sum.columns));
  for (double& x : factor.values) x *= mean;
  return factor;
}

}  // namespace

extern const MergeMethod kIsoC = {
    .name = "iso_c",
    .base = BaseRole::kApart,
    .min_models = 2,
    .about =
        "The sum of the task vectors of a linear layer with all its singular values replaced by "
        "their mean; directions whose singular value is 0 stay out. In other tensors, embeddings "
        "and head among them, the task vectors are averaged.",
    .paper = "Marczak et al., \"No Task Left Behind\", arXiv 2502.04959, section 4.1",
    .model_parameters = {{"weight", 1}},
    .whole_parameters = {{"lambda", 1}},
    .survey = survey_matrices<merge>,
    .blend = blend_matrices,
    .matrices_held = [](size_t models) { return models + 7; }};

}  // namespace lewis
