// The models of a recipe, opened and proven to fit together; which tensors the output has, and what
// the recipe says of each.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "merge/method.h"
#include "recipe/recipe.h"

namespace lewis {

// A tensor of one model.
struct MergeSource {
  size_t model = 0;  // into MergeInputs::models()
  const TensorInfo* tensor = nullptr;
  size_t place = 0;  // into the slice's sources (form slices)
};

// A tensor of the output and what it is made of.
struct OutputTensor {
  TensorInfo info;                  // name, shape and type in the output
  std::vector<MergeSource> models;  // those that the method merges, in recipe order
  std::optional<MergeSource> base;  // if the method takes one apart
  size_t slice = 0;                 // into Recipe::slices
  double depth = 0;                 // t of gradients
  bool merged = true;               // by arithmetic; else copied

  // Everything that is read for it: the models, then the base.
  std::vector<MergeSource> sources() const;
};

class MergeInputs {
 public:
  // Opens every model and accounts for every tensor: all models must have the same names and
  // shapes (form slices: in what the slices take), else Error(kInput) names the tensor and both
  // models. Error(kUsage): merge_method is not known, has too few or too many models, or lacks its
  // base model or a parameter that it needs.
  explicit MergeInputs(const Recipe& recipe);

  const Recipe& recipe() const { return recipe_; }
  const MergeMethod& method() const { return method_; }
  const std::vector<Checkpoint>& models() const { return models_; }  // as in Recipe::models
  // The model that gives what is not merged: config, tokenizer. The base if there is one.
  const Checkpoint& main() const { return models_[recipe_.base_index.value_or(0)]; }
  const std::vector<OutputTensor>& tensors() const { return tensors_; }  // sorted by name
  const OutputTensor& tensor(std::string_view name) const;
  // Indices into models() of those that are merged somewhere, in recipe order.
  const std::vector<size_t>& merged() const { return merged_; }
  // Layers of the output (form slices), else of main().
  int64_t layers() const { return layers_; }

  // The parameters of a tensor. Error(kUsage) names tensor, model and parameter.
  TensorTask task(const OutputTensor& tensor, uint64_t seed) const;
  // What each parameter of a tensor is and which line of the recipe says so, one line each.
  std::vector<std::string> explain(const OutputTensor& tensor) const;
  // What is allowed but may surprise; one line each.
  std::vector<std::string> warnings() const;

 private:
  bool is_apart(size_t model) const;
  void choose_models();
  void account() const;
  void add_tensors_of_models();
  void add_tensors_of_slices();
  OutputTensor output_of_slice(size_t slice, int64_t offset, const TensorInfo& first) const;
  void check(const OutputTensor& tensor) const;
  void check_counts(const OutputTensor& tensor) const;
  DType output_dtype(const OutputTensor& tensor) const;
  std::vector<ParameterLevel> levels(const OutputTensor& tensor, const MergeSource* source) const;
  void check_tokenizers() const;
  std::string where() const { return recipe_.file.string(); }

  Recipe recipe_;
  const MergeMethod& method_;
  std::vector<Checkpoint> models_;
  std::vector<size_t> merged_;
  std::vector<OutputTensor> tensors_;
  int64_t layers_ = 0;
};

}  // namespace lewis
