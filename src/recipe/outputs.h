// `outputs:` of a recipe: several weighted means of the same models, written in one pass.
#pragma once

#include <string>
#include <vector>

#include "recipe/recipe.h"

namespace lewis {

// The recipe that merges one of recipe.outputs alone: linear, with the output's weights and sums in
// double precision. It gives the same tensors as the pass that writes all outputs. Its text is
// YAML that mergekit reads, too.
Recipe recipe_of_output(const Recipe& recipe, size_t output);

// Whether the weighted sums are divided by the sums of their weights.
bool normalizes(const Recipe& recipe);

// A model's share of the result where the weights are divided by their sum, else its weight. Of
// listed models whose weight is not 0, in recipe order.
struct OutputShare {
  std::string model;
  double share = 0;
};
std::vector<OutputShare> shares_of(const Recipe& recipe, size_t output);

// One line for people: how the weights were made, and how many models have one.
std::string describe_output(const Recipe& recipe, size_t output);

// Error(kUsage) that says why a recipe with outputs cannot be used for `what`, where it has some.
void refuse_outputs(const Recipe& recipe, std::string_view what);

}  // namespace lewis
