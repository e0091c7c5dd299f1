#include "refine/norm_solver.h"

#include <vector>

namespace lewis {
namespace {

// Per channel j the factor c on the weight that minimises
// sum_t w (c x^m_tj - x^e_tj)^2 + ridge sum_t w (x^m_tj)^2 (c - 1)^2, which is a least-squares
// problem of its own; weights [width] become the new ones. `one`: what is added to a stored weight.
void scale_weights(const TextRows& text, const Streams& x, double ridge, double one,
                   std::vector<float>& weights) {
  const size_t width = weights.size();
  std::vector<double> squares(width), products(width);
  for (int64_t r = 0; r < text.fit_rows; ++r) {
    const double w = text.weights[static_cast<size_t>(r)];
    const float *merged = x[kMerged].row(r), *expert = x[kExperts].row(r);
    for (size_t j = 0; j < width; ++j) {
      squares[j] += w * merged[j] * merged[j];
      products[j] += w * merged[j] * expert[j];
    }
  }
  for (size_t j = 0; j < width; ++j) {
    if (squares[j] == 0) continue;
    const double c = (products[j] / squares[j] + ridge) / (1 + ridge);
    weights[j] = static_cast<float>(weights[j] + (c - 1) * (weights[j] + one));
  }
}

}  // namespace

void solve_norm(LayerSolver& solver, const Transformer& prior, const TextRows& text,
                const RefineSettings& settings, const BlockNorm& norm, Streams& x) {
  if (!settings.norms || !solver.is(RefineMethod::kRegression) || norm.spec.bias) return;
  const std::string name = norm.name + ".weight";
  const TensorInfo& info = prior.source().get(name);
  std::vector<float> weights = prior.source().read_floats(info);
  const std::vector<float> before = weights;
  const double one = norm.spec.plus_one ? 1 : 0;
  scale_weights(text, x, settings.ridge.value_or(kDefaultRidge), one, weights);
  const auto stored = solver.refined_rows(name, 0, norm.width, 1);
  narrow(weights, info.dtype, stored.data());
  widen(info.dtype, stored.data(), weights);
  const size_t width = weights.size();
  std::vector<float> factors(width, 1.0f);
  for (size_t j = 0; j < width; ++j) {
    const double was = before[j] + one;
    if (was != 0) factors[j] = static_cast<float>((weights[j] + one) / was);
  }
  for (int64_t r = 0; r < text.rows; ++r) {
    for (size_t j = 0; j < width; ++j) x[kMerged].row(r)[j] *= factors[j];
  }
}

}  // namespace lewis
