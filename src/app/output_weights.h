// The outputs of a recipe as results show them.
#pragma once

#include <lewis/lewis.h>

#include "base/json_fwd.h"
#include "recipe/recipe.h"

namespace lewis {

OutputWeights weights_of(const Recipe& recipe, size_t output);
Json to_json(const OutputWeights& weights);

}  // namespace lewis
