// LEWIS itself: statistics and weights -> importance -> densities. A function from recipe to
// recipe.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/threads.h"
#include "calibrate/statistics.h"
#include "io/tensor_source.h"
#include "recipe/recipe.h"

namespace lewis {

// Importance of the linear layers of one fine-tuned model: module name (X of X.weight) -> value.
using LayerValues = std::map<std::string, double>;

// What an importance is computed from: base and expert with their statistics on the same text.
struct ImportanceInput {
  const TensorSource& base;
  const TensorSource& expert;
  const Statistics& base_statistics;
  const Statistics& expert_statistics;
  Threads& threads;
  ProgressFn progress;
};

struct ModelPlan {
  size_t model = 0;                    // index into Recipe::models
  LayerValues base_norm, expert_norm;  // n_base, n_expert of norm_shift (empty for others)
  LayerValues importance;              // after normalisation and rounding
  LayerValues part_importance;         // of the parts of fused weights, which share its density
  // Experts that saw too few tokens to be judged by them, with how many they were (in base or
  // expert, whichever is less): they have the mean of the other experts of their layer.
  std::map<std::string, int64_t> few_tokens;
  LayerValues density;
  std::vector<std::string> tensors;  // the names of all of the model's tensors
};

// Error(kUsage) when the recipe names an importance or an allocation that is not known.
void check_plan_settings(const Recipe& recipe);

// The densities of one expert by the recipe's importance and allocation.
ModelPlan plan_model(const Recipe& recipe, size_t model, const ImportanceInput& input);

// The recipe with the densities of every plan as `density` filters (uncovered: the value of all
// other tensors) and without need of calibration. Filters cannot catch another layer's tensor
// ("model.layers.1.self_attn.q_proj" is no substring of layer 11's names).
Recipe apply_plans(const Recipe& recipe, const std::vector<ModelPlan>& plans);

// The tables: names that the recipe accepts.
std::vector<std::string_view> importance_names();
std::vector<std::string_view> allocation_names();

// allocation min_max on values that are normalised already (spec/LEWIS step 3 and 4): rounds to 5
// decimals, then scales [min, max] to [gamma, epsilon]; all equal gives the middle.
LayerValues allocate_min_max(const LayerValues& importance, double gamma, double epsilon);

}  // namespace lewis
