// The models of a recipe, opened and proven to fit together, and what the recipe says of a tensor.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "merge/method.h"
#include "recipe/recipe.h"

namespace lewis {

class MergeInputs {
 public:
  // Opens every model and accounts for every tensor: all models must have the same names and
  // shapes, else Error(kInput) names the tensor and both models. Error(kUsage): merge_method is not
  // known, or lacks its base model or a model's weight.
  explicit MergeInputs(const Recipe& recipe);

  const Recipe& recipe() const { return recipe_; }
  const MergeMethod& method() const { return method_; }
  const std::vector<Checkpoint>& models() const { return models_; }  // as in Recipe::models
  // The model that gives what is not merged: config, tokenizer. The base if there is one.
  const Checkpoint& main() const { return models_[recipe_.base_index.value_or(0)]; }
  // Indices into models() of those that the method merges, in recipe order.
  const std::vector<size_t>& merged() const { return merged_; }
  // Index of the model that the method takes apart as base.
  std::optional<size_t> base() const {
    return method_.needs_base ? recipe_.base_index : std::nullopt;
  }

  // Where the tensor of main() lies in another model.
  const TensorInfo& tensor_of(size_t model, const TensorInfo& tensor) const {
    return models_[model].get(tensor.name);
  }
  // Merged by arithmetic; the others are copied.
  bool is_merged(const TensorInfo& tensor) const;
  // Name, shape and type in the output: out_dtype, else dtype, else the base's type, else the type
  // that all models have, else F32.
  TensorInfo output(const TensorInfo& tensor) const;
  // The parameters of a tensor. Error(kUsage) names tensor, model and parameter.
  TensorTask task(const TensorInfo& tensor, uint64_t seed) const;
  // What is allowed but may surprise; one line each.
  std::vector<std::string> warnings() const;

 private:
  void choose_models();
  void account() const;
  void check_tokenizers() const;
  double depth(const TensorInfo& tensor) const { return tensor_depth(tensor.name, layers_); }

  Recipe recipe_;
  const MergeMethod& method_;
  std::vector<Checkpoint> models_;
  std::vector<size_t> merged_;
  int64_t layers_ = 0;
};

}  // namespace lewis
