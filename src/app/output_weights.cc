#include "app/output_weights.h"

#include "base/json.h"
#include "recipe/outputs.h"

namespace lewis {

OutputWeights weights_of(const Recipe& recipe, size_t output) {
  OutputWeights weights{recipe.outputs.at(output).name, describe_output(recipe, output), {}};
  for (const OutputShare& s : shares_of(recipe, output))
    weights.shares.emplace_back(s.model, s.share);
  return weights;
}

Json to_json(const OutputWeights& weights) {
  Json shares = Json::array();
  for (const auto& [model, share] : weights.shares)
    shares.push_back({{"model", model}, {"share", share}});
  return {{"name", weights.name}, {"words", weights.words}, {"shares", shares}};
}

}  // namespace lewis
