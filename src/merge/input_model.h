// A model of a recipe, opened: a folder, a folder with an adapter, or what another document of the
// recipe merges. Merging, calibration and evaluation read models through this.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "base/json.h"
#include "io/tensor_source.h"
#include "recipe/recipe.h"

namespace lewis {

struct InputModel {
  std::string name;  // as the recipe writes it
  std::shared_ptr<const TensorSource> source;
  std::filesystem::path folder;  // that gives generation_config, tokenizer and chat template
  std::string config_text;       // config.json; "" when there is none
  Json config = Json::object();  // the same, parsed
  // Changes when the model does; does not read the weights (Checkpoint::fingerprint).
  std::function<std::string()> fingerprint;

  const std::string& label() const { return source->label(); }
};

struct OpenOptions {
  uint64_t seed = 0;   // of a stage's random masks
  size_t threads = 0;  // that merge a stage's tensors; 0: one per core
};

// Opens what the recipe names and proves every header. Error(kInput) for a folder that is no model
// or whose weights are packed integers, Error(kUsage) for a stage that cannot be merged.
InputModel open_input(const RecipeModel& model, const OpenOptions& options);

}  // namespace lewis
