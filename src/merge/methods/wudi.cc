// wudi: the task vector that interferes least with those of the models, where the rows of a task
// vector stand for the inputs that its layer saw in training (Cheng et al., "Whoever Started the
// Interference Should End It", arXiv 2503.08099, equation 10). The authors minimise
//   sum_k |(tau - tau_k) tau_k^T|^2 / |tau_k|^2
// by 300 steps of Adam from the sum of the task vectors; this is the minimum itself, with
// A_k = tau_k^T tau_k / |tau_k|^2 and a ridge that holds tau to that sum:
//   tau (sum A_k + rho I) = sum tau_k A_k + rho S,   S = sum tau_k,   rho = ridge * mean of the
//   diagonal of sum A_k.
// With the rows of all tau_k / |tau_k| as Z, and D = tau - S,
//   D (Z^T Z + rho I) = C Z,   so that   D = C (Z Z^T + rho I)^-1 Z:
// the smaller of the two systems is solved.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "merge/common/task_matrices.h"

namespace lewis {
namespace {

double squared_norm(const DoubleMatrix& m) { return inner_product(m.values, m.values); }

// tau_k / |tau_k|, of those that are not zero.
std::vector<DoubleMatrix> normalised(std::vector<DoubleMatrix> tau) {
  std::erase_if(tau, [](const DoubleMatrix& t) { return squared_norm(t) == 0; });
  for (DoubleMatrix& t : tau) {
    const double norm = std::sqrt(squared_norm(t));
    for (double& x : t.values) x /= norm;
  }
  return tau;
}

// right = right (system + rho I)^-1.
void solve(DoubleMatrix system, double rho, const TensorTask& task, DoubleMatrix& right,
           Threads& threads) {
  for (int64_t i = 0; i < system.rows; ++i) system.at(i, i) += rho;
  if (divide_by_symmetric(system, right, threads)) return;
  throw usage_error(
      "wudi: the equations of tensor {} have no single solution with ridge {}; a larger ridge, as "
      "0.01, gives them one",
      task.name, task["ridge"]);
}

// D with equations of the size of the layer's inputs. left[k] = tau_k - S.
DoubleMatrix solve_inputs(const TensorTask& task, const std::vector<DoubleMatrix>& left,
                          const std::vector<DoubleMatrix>& z, double rho, Threads& threads) {
  const int64_t inputs = z[0].columns;
  DoubleMatrix system(inputs, inputs), right(z[0].rows, inputs);
  for (size_t k = 0; k < z.size(); ++k) {
    DoubleMatrix gram(inputs, inputs);
    add_scaled_gram(z[k], 1, gram, threads);
    add_product(left[k], gram, right, threads);
    add_to(gram, 1, system);
  }
  solve(std::move(system), rho, task, right, threads);
  return right;
}

// D with equations of the size of all models' outputs together.
DoubleMatrix solve_outputs(const TensorTask& task, const std::vector<DoubleMatrix>& left,
                           const std::vector<DoubleMatrix>& z, double rho, Threads& threads) {
  const int64_t out = z[0].rows, all = out * std::ssize(z);
  DoubleMatrix rows(all, z[0].columns), right(out, all), system(all, all);
  auto end = rows.values.begin();
  for (size_t k = 0; k < z.size(); ++k) {
    end = std::ranges::copy(z[k].values, end).out;
    DoubleMatrix products(out, out);
    add_product_transposed(left[k], z[k], products, threads);
    for (int64_t r = 0; r < out; ++r) {
      for (int64_t c = 0; c < out; ++c)
        right.at(r, static_cast<int64_t>(k) * out + c) = products.at(r, c);
    }
  }
  add_product_transposed(rows, rows, system, threads);
  solve(std::move(system), rho, task, right, threads);
  DoubleMatrix found(out, rows.columns);
  add_product(right, rows, found, threads);
  return found;
}

DoubleMatrix merge(const TensorTask& task, std::vector<DoubleMatrix> tau, Threads& threads) {
  DoubleMatrix sum(tau[0].rows, tau[0].columns);
  for (const DoubleMatrix& t : tau) add_to(t, 1, sum);
  std::vector<DoubleMatrix> z = normalised(tau);
  std::erase_if(tau, [](const DoubleMatrix& t) { return squared_norm(t) == 0; });
  for (DoubleMatrix& t : tau) add_to(sum, -1, t);
  const int64_t inputs = sum.columns, outputs = sum.rows * std::ssize(z);
  // The diagonal of every A_k adds up to 1.
  const double rho = task["ridge"] * static_cast<double>(z.size()) / static_cast<double>(inputs);
  const DoubleMatrix change = inputs <= outputs ? solve_inputs(task, tau, z, rho, threads)
                                                : solve_outputs(task, tau, z, rho, threads);
  add_to(change, 1, sum);
  return sum;
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
    .survey = survey_matrices<merge>,
    .blend = blend_matrices,
    .matrices_held = [](size_t models) { return 4 * models + 5; }};

}  // namespace lewis
