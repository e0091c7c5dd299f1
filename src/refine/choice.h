// The numbers of a layer's least squares, chosen by what they are worth on held-out tokens
// (docs/refine.md). All candidates are solved for a sample of output channels and compared there;
// only the one that is chosen is then solved for all channels.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "compute/backend.h"
#include "recipe/recipe.h"
#include "refine/ridge.h"
#include "refine/streams.h"
#include "refine/text.h"

namespace lewis {

struct LayerChoice {
  double alpha = 1;  // the teacher's input is alpha X^e + (1 - alpha) X^m
  double ridge = kDefaultRidge;
  double prior_scale = 1;  // the pull is towards W_base + prior_scale (W_0 - W_base)
  RefineWeighting weighting = RefineWeighting::kTokens;
  bool operator==(const LayerChoice&) const = default;
};

// The values that each number may have. Together they are the candidates; the first of each is the
// default, which is taken unless another candidate is better by more than noise.
struct ChoiceTable {
  std::vector<double> alphas{1}, ridges{kDefaultRidge}, prior_scales{1};
  std::vector<RefineWeighting> weightings{RefineWeighting::kTokens};
  size_t size() const {
    return alphas.size() * ridges.size() * prior_scales.size() * weightings.size();
  }
  LayerChoice standard() const { return {alphas[0], ridges[0], prior_scales[0], weightings[0]}; }
};

// What the settings leave open. Nothing is open where nothing is held out, nor with the methods of
// RegMean; the prior's scale is not without a base.
ChoiceTable choice_table(const RefineSettings& settings, bool held_out, bool has_base);

// What was chosen for the layers that share an input, and what it is worth: the mean relative
// square of what the layers return on held-out tokens minus what the experts' return, with the
// default's numbers and with those that were chosen.
struct ChoiceRecord {
  std::string layers;  // "q_proj, k_proj, v_proj"
  LayerChoice choice;
  double error_default = 0, error = 0;
};

constexpr int64_t kProbedChannels = 96;  // of all layers that share an input, about

// Outputs of some channels of the layers that share an input, [rows of the text, channels] each.
struct ChoiceProbe {
  Matrix wanted;  // what the experts return beyond the prior: X^e W_k^T - X^m W_0^T
  Matrix own;     // what they would of the merged inputs: X^m (W_k - W_0)^T; empty if no alpha < 1
  Matrix moved;   // the prior's task vector: X^m (W_0 - W_base)^T; empty if every scale is 1
  Matrix target;  // X^e W_k^T
  std::vector<int64_t> channels;  // of each layer: their numbers add up to the columns
};

// The left side of the layers that share an input, factored. It holds on to x.
struct FittedSystem {
  std::vector<float> weights;  // of the fitted rows, by the weighting
  std::unique_ptr<RidgeSystem> ridge;
};
FittedSystem fit_system(const TextRows& text, const Matrix& x, RefineWeighting weighting,
                        const RidgeOptions& options, Threads& threads);

// Solves for every candidate of the table, and finds the one that is best on the held-out rows; its
// system comes back in `system`. x is the layers' input in the merged stream, all rows of the text.
// Candidates are compared piece by piece of the held-out rows (pieces_of). One takes the default's
// place only when its error is less by more than two standard errors of the paired differences.
ChoiceRecord choose(const ChoiceTable& table, const TextRows& text, const Matrix& x,
                    const ChoiceProbe& probe, Backend& backend, Threads& threads,
                    FittedSystem& system);

// Held-out rows that are compared together: up to 8 pieces of consecutive rows per expert.
struct RowPiece {
  size_t segment;
  int64_t first_row, rows;  // of the text
};
std::vector<RowPiece> pieces_of(const TextRows& text);

// errors[candidate][piece] -> the candidate that is taken; the first one is the default. `strata`:
// the expert of each piece.
size_t best_candidate(std::span<const std::vector<double>> errors, std::span<const size_t> strata);

}  // namespace lewis
