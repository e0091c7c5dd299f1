// wudi: the task vector that interferes least with those of the models, where the rows of a task
// vector stand for the inputs that its layer saw in training (Cheng et al., "Whoever Started the
// Interference Should End It", arXiv 2503.08099, equation 10). The authors minimise
//   sum_k |(tau - tau_k) tau_k^T|^2 / |tau_k|^2
// by 300 steps of Adam from the sum of the task vectors; this is the minimum itself, with
// A_k = tau_k^T tau_k / |tau_k|^2 and a ridge that holds tau to that sum:
//   tau (sum A_k + rho I) = sum tau_k A_k + rho sum tau_k,   rho = ridge * mean diagonal of sum
//   A_k.
#include "base/error.h"
#include "merge/common/task_matrices.h"

namespace lewis {
namespace {

double squared_norm(const DoubleMatrix& m) {
  double sum = 0;
  for (const double x : m.values) sum += x * x;
  return sum;
}

DoubleMatrix merge(const TensorTask& task, std::vector<DoubleMatrix> tau, Threads& threads) {
  const int64_t inputs = tau[0].columns;
  DoubleMatrix system(inputs, inputs), right(tau[0].rows, inputs), sum = right;
  for (const DoubleMatrix& t : tau) {
    const double square = squared_norm(t);
    if (square == 0) continue;
    DoubleMatrix a(inputs, inputs);
    add_scaled_gram(t, 1 / square, a, threads);
    add_product(t, a, right, threads);
    for (size_t i = 0; i < a.values.size(); ++i) system.values[i] += a.values[i];
    for (size_t i = 0; i < t.values.size(); ++i) sum.values[i] += t.values[i];
  }
  double trace = 0;
  for (int64_t i = 0; i < inputs; ++i) trace += system.at(i, i);
  const double ridge = task["ridge"] * trace / static_cast<double>(inputs);
  for (int64_t i = 0; i < inputs; ++i) system.at(i, i) += ridge;
  for (size_t i = 0; i < sum.values.size(); ++i) right.values[i] += ridge * sum.values[i];
  if (!divide_by_symmetric(system, right, threads)) {
    throw usage_error(
        "wudi: the equations of tensor {} have no single solution with ridge {}; a larger ridge, "
        "as 0.01, gives them one",
        task.name, task["ridge"]);
  }
  return right;
}

std::unique_ptr<Survey> survey(const TensorTask& task, const ChunkPass& pass) {
  return survey_matrices(task, pass, merge);
}

}  // namespace

extern const MergeMethod kWudi = {
    .name = "wudi",
    .base = BaseRole::kApart,
    .min_models = 2,
    .about =
        "The task vector of a linear layer that interferes least with those of the models, where "
        "the rows of a task vector stand for the inputs of its layer: the minimum in closed form "
        "that the authors approach by gradient descent, held to the sum of the task vectors by "
        "`ridge`. In other tensors, embeddings and head among them, the task vectors are averaged.",
    .paper = "Cheng et al., \"Whoever Started the Interference Should End It\", arXiv 2503.08099",
    .model_parameters = {{"weight", 1}},
    .whole_parameters = {{"ridge", 0.01}, {"lambda", 1}},
    .survey = survey,
    .blend = blend_matrices,
    .survey_matrices = [](size_t models) { return models + 6; }};

}  // namespace lewis
