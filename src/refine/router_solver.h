// The router of a block's routed experts: its new weights, so that the merged model chooses as the
// experts' models do (docs/refine.md; HARC, arXiv 2606.03391, section 3).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/threads.h"
#include "compute/dense.h"
#include "model/model_spec.h"
#include "refine/layer_solver.h"

namespace lewis {

// What one number of the scores changes: all probabilities, or that of its expert alone.
enum class RouterMetric { kSoftmax, kSigmoid };
RouterMetric metric_of(Router router);

// D [experts, in] that minimises, over the first rows of the text,
//
//     sum_t w_t (D x_t - r_t)^T S_t (D x_t - r_t),    r = wanted - scores
//
// with S = diag(p) - p p^T and p = softmax(wanted), or S = diag(p (1 - p)) and p = sigmoid(wanted):
// the second order of the divergence between the wanted probabilities and those of scores + D x.
// The matrix of this problem, H, is damped to 0.9 H + 0.1 diag(H) + rho I, rho = ridge * mean of
// diag(H). It is never made: conjugate gradients begin at 0 and end when the residual is 1e-6 of
// the right side, or after 1,000 steps. x: [rows, in]; weights: [rows]; wanted, scores: at least as
// many rows, [., experts].
std::vector<double> solve_router(RouterMetric metric, double ridge, const FloatMatrix& x,
                                 std::span<const float> weights, const Matrix& wanted,
                                 const Matrix& scores, Threads& threads);

// The divergence sum_t w_t KL(wanted || scores) of rows [first, end), of all experts' probabilities
// or, with sigmoids, the sum over the experts.
double router_divergence(RouterMetric metric, const Matrix& wanted, const Matrix& scores,
                         std::span<const float> weights, int64_t first, int64_t end);

// Solves for the router's weights on the fitted rows and puts them into the solver's result, unless
// the settings or the method leave routers as merged, or the held-out rows diverge more than
// before; a note says the latter. x: what the merged model's router reads; wanted: the scores that
// the experts' routers give; scores: those that the prior's router gives to x, all [rows of the
// text, .]. Returns the scores that the merged model's router gives to x from now on.
Matrix refine_router(LayerSolver& solver, const RefineModels& models, const TextRows& text,
                     const RefineSettings& settings, const RefinedLayer& router, const Matrix& x,
                     const Matrix& wanted, Matrix scores);

}  // namespace lewis
