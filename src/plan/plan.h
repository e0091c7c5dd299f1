// LEWIS itself: from statistics and weights follow importances, from those densities. A plan is a
// function from recipe to recipe (docs/lewis.md).
#pragma once

#include <lewis/results.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/threads.h"
#include "calibrate/statistics.h"
#include "io/tensor_source.h"
#include "recipe/recipe.h"

namespace lewis {

struct ModelPlan;

// What an importance is computed from: base and expert with their statistics on the same text.
struct ImportanceInput {
  const TensorSource& base;
  const TensorSource& expert;
  const Statistics& base_statistics;
  const Statistics& expert_statistics;
  Threads& threads;
  ProgressFn progress{};
  // The output changes between both, for an importance that asks for them
  // (needs_output_changes); else null.
  const Statistics* output_changes = nullptr;
  // Fills the importances of a plan, by `compute` or from where they were kept; empty: `compute` is
  // called.
  std::function<void(ModelPlan& plan, const std::function<void()>& compute)> importances{};
};

// Sums of |x_j| over the tokens, for the inputs of a weight with `rows` rows.
struct ChannelMagnitudes {
  int64_t rows = 0;
  std::vector<double> sums;  // [in]
};

struct ModelPlan : LayerPlan {
  size_t model = 0;                                          // index into Recipe::models
  ColumnFactorMap trim_factors;                              // lewis.trim: activation
  std::map<std::string, ChannelMagnitudes> base_magnitudes;  // lewis.aim: by tensor
  std::vector<std::string> tensors;  // the names of all of the model's tensors
};

// Error(kUsage) when the recipe's settings of importance, allocation and the like do not fit
// together.
void check_plan_settings(const Recipe& recipe);
// Returns whether the recipe's importance needs the output changes between both models.
bool needs_output_changes(const Recipe& recipe);

// The densities of one expert by the recipe's importance and allocation.
ModelPlan plan_model(const Recipe& recipe, size_t model, const ImportanceInput& input);

// The recipe with the densities of every plan as `density` filters (uncovered: the value of all
// other tensors) and without need of calibration. Filters cannot catch another layer's tensor
// ("model.layers.1.self_attn.q_proj" is no substring of layer 11's names). With coefficients,
// `weight` becomes such a list too. What YAML cannot hold (trim_factors, relaxation) is in memory.
Recipe apply_plans(const Recipe& recipe, const std::vector<ModelPlan>& plans);

// AIM's factors for the merged task vector by tensor (Heyrani Nobari et al., "Activation-Informed
// Merging", arXiv 2502.02421): 1 - (1 - omega) a_j / max a, where a_j is the mean of |x_j| over the
// base's tokens of all plans.
ColumnFactorMap aim_relaxation(const std::vector<ModelPlan>& plans, double omega);

// The planned recipe as a file. Factors that YAML cannot hold stay a section `lewis:` with
// `allocation: none`, which computes them anew from the same text; without them the file is plain
// mergekit.
std::string planned_yaml(const Recipe& recipe);

// The allocation min_max on values that are normalised already (docs/lewis.md): rounds to 5
// decimals, then scales [min, max] to [gamma, epsilon]; all equal gives the middle.
LayerValues allocate_min_max(const LayerValues& importance, double gamma, double epsilon);

}  // namespace lewis
