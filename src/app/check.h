// All that can be known of a recipe and its models before the weights are read, and whether the
// models descend from the base.
#pragma once

#include <lewis/lewis.h>

#include <optional>
#include <string>
#include <vector>

#include "base/threads.h"
#include "io/checkpoint.h"

namespace lewis {

struct RecipeCheck {
  struct Model {
    std::string name;
    uint64_t bytes = 0;  // of its tensors
    // Computed on a sample of its matrices and the base's; unset for the base itself.
    std::optional<double> cosine_to_base, relative_task_vector;
  };
  std::vector<Model> models;
  size_t tensors = 0;  // of the output
  std::vector<OutputWeights> outputs;
  int64_t vocabulary = 0;  // rows of the embeddings, where a tokenizer setting changes them
  std::vector<std::string> warnings;  // one line each
};

// The notes that a merge of the model tells, and why a merge refuses it if it does.
std::vector<std::string> notes_on_model(const Checkpoint& checkpoint, const Threads& threads);

// Throws as merge() does for a recipe that cannot be merged.
RecipeCheck check_recipe(const Recipe& recipe, Threads& threads);

}  // namespace lewis
