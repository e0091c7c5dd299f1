// The models of a recipe, opened and proven to fit together: which tensors the output has, what
// each is made of, and which parameters it is merged with. merge/inputs/ has the parts of
// MergeInputs.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/page_buffer.h"
#include "base/threads.h"
#include "io/layer_kinds.h"
#include "merge/fp8_blocks.h"
#include "merge/input_model.h"
#include "merge/method.h"
#include "merge/tensor/merge_tensor.h"
#include "recipe/recipe.h"

namespace lewis {

// A tensor of one model.
struct MergeSource {
  const InputModel* input = nullptr;
  const TensorInfo* tensor = nullptr;
  size_t model = 0;  // into Recipe::models (of the module's recipe)
  size_t place = 0;  // into the slice's sources (form slices)
};

// Reads a range of a tensor of every source; each source has a buffer of its own in `rooms`.
// (Reading them at the same time was not faster, with a cold or a warm page cache.)
std::vector<StoredTensor> read_stored(std::span<const MergeSource> sources,
                                      const ElementRange& range, std::vector<PageBuffer>& rooms);

// A tensor of the output and the tensors that it is made of.
struct OutputTensor {
  TensorInfo info;                  // name, shape and type in the output
  std::vector<MergeSource> models;  // those that the method merges, in recipe order
  std::optional<MergeSource> base;  // if the method takes a base apart
  size_t module = 0;                // into Recipe::modules
  size_t slice = 0;                 // into Recipe::slices
  double depth = 0;                 // place t of the tensor in gradients, 0 to 1
  bool merged = true;               // merged by arithmetic; false: copied
  bool refined = false;             // copied from OpenOptions::refined
  bool base_alone = false;          // nothing is merged into the base: the base is passed through

  // All tensors that are read for it: those of the models, then that of the base.
  std::vector<MergeSource> sources() const;
};

// Whether a merge reads the tensors that adapters change as F32: the change is rounded once, to the
// type of the output, where a recipe says what that is and no other type comes between.
bool reads_adapted_as_f32(const Recipe& recipe);

class MergeInputs {
 public:
  // Opens every model and accounts for every tensor: all models must have the same names and
  // shapes (form slices: in what the slices take), else Error(kInput) names the tensor and both
  // models. Error(kUsage): merge_method is not known, has too few or too many models, or lacks its
  // base model or a parameter that it needs.
  explicit MergeInputs(const Recipe& recipe, const OpenOptions& options = {});

  const Recipe& recipe() const { return recipe_; }
  const MergeMethod& method() const { return method_; }
  // That of the tensor's module.
  const MergeMethod& method_of(const OutputTensor& tensor) const;
  const std::vector<const InputModel*>& models() const { return models_; }  // of all modules
  // The inputs of each module, where the recipe has several; else empty.
  const std::vector<std::unique_ptr<MergeInputs>>& modules() const { return modules_; }
  // The model that gives the files that are not merged (config, tokenizer): the base, or without
  // one the first model.
  const InputModel& main() const { return *main_; }
  const std::vector<OutputTensor>& tensors() const { return tensors_; }  // sorted by name
  // By its name here, or by that of a written tensor, of which it is the first part.
  const OutputTensor& tensor(std::string_view name) const;
  // The tensors as the output is written: experts in the spelling of main(), or in the one that the
  // recipe asks for.
  std::vector<WrittenTensor> written() const;
  // The names of the models that are merged somewhere, in recipe order.
  std::vector<std::string> merged_names() const;
  // How the tokenizer of main() changes.
  const TokenizerChange& tokenizer() const { return tokenizer_; }
  // The number of layers of the output (form slices), or of main().
  int64_t layers() const { return layers_; }

  // Where each layer of a stack of slices comes from: its slice's first source. Empty in the form
  // models.
  std::vector<LayerOrigin> layer_origins() const;

  // The matrices that are written as float8 (out_dtype: fp8_block); others get these tensors as
  // F32.
  const Fp8Matrices& fp8() const { return fp8_; }
  // How many results every tensor has: one, or one for each of recipe().outputs.
  size_t results() const { return std::max<size_t>(1, recipe_.outputs.size()); }
  // The parameters of a tensor, of one of its results. Error(kUsage) names tensor, model and
  // parameter.
  TensorTask task(const OutputTensor& tensor, size_t result = 0) const;
  // One of the results of a tensor.
  struct Wanted {
    size_t result = 0;
    TensorOutput* out = nullptr;
    bool copied = false;  // set by merge(): it is one input's values unchanged
  };
  // Merges or copies a tensor; `sources` are its sources(), in their order.
  void merge(const OutputTensor& tensor, const TensorInputs& sources, std::span<Wanted> wanted,
             Threads& threads) const;
  // The only result. Returns whether it is one input's values unchanged.
  bool merge(const OutputTensor& tensor, const TensorInputs& sources, TensorOutput& out,
             Threads& threads) const;
  // The parameters of a tensor and where each value comes from, one line each.
  std::vector<std::string> explain(const OutputTensor& tensor) const;
  // Notes on what is allowed but may surprise, one line each.
  std::vector<std::string> warnings() const;
  // A note where config.json of main() promises multi-token prediction and the output has no tensor
  // of it: then the output's config.json promises none (model_card.cc).
  std::vector<std::string> mtp_notes() const;
  // A note where the output has layers of multi-token prediction that transformers names as
  // unexpected when it loads the model.
  std::vector<std::string> mtp_layer_notes() const;
  // For each model that was rounded to blocks (RoundedTensors): how large that rounding is beside
  // the difference from the base, computed on a sample of its tensors. Without a base none.
  std::vector<std::string> rounding_notes() const;

 private:
  using Belongs = std::function<bool(const std::string& tensor)>;
  MergeInputs(const Recipe& recipe, const OpenOptions& options, Belongs belongs);

  void check_lewis() const;
  std::vector<size_t> order_by_name(const OutputTensor& tensor) const;
  void open_models();
  void settle_names();
  void leave_out_buffers();
  void settle_heads();
  void change_tokenizers();
  void open_modules();
  void take_over(size_t module);
  void choose_models();
  std::string filter_names(const std::string& tensor) const;
  bool is_apart(size_t model, size_t slice) const;
  std::vector<const TensorInfo*> tensors_of(const InputModel& model) const;
  LayerStacks stacks_of(const InputModel& model) const;
  std::pair<std::string, int64_t> only_stack(const InputModel& model) const;
  class Absent;  // missing.cc
  void account();
  void check_surplus(const InputModel& model);
  MergeSource source_of(size_t model, const std::string& tensor) const;
  void take_from_main(OutputTensor& tensor) const;
  void add_mtp_of_main();
  void add_tensors_of_models();
  void check_layer_ranges() const;
  void add_tensors_of_slices();
  void check_layer_kinds();
  OutputTensor output_of_slice(size_t slice, int64_t offset, const TensorInfo& first) const;
  void pass_base_through(OutputTensor& tensor) const;
  void take_refined(OutputTensor& tensor) const;
  void check(const OutputTensor& tensor) const;
  void check_counts(const OutputTensor& tensor) const;
  DType output_dtype(const OutputTensor& tensor) const;
  std::vector<ParameterLevel> levels(const OutputTensor& tensor, const MergeSource* source) const;
  void take_value(const MethodParameter& parameter, const std::vector<ParameterLevel>& levels,
                  const OutputTensor& tensor, const MergeSource* source,
                  ParameterValues& values) const;
  std::string where() const { return recipe_.file.string(); }

  Recipe recipe_;
  OpenOptions options_;
  Belongs belongs_;  // which tensors of the models are this module's; null: all
  const MergeMethod& method_;
  std::vector<std::unique_ptr<MergeInputs>> modules_;  // of several, as in Recipe::modules
  std::vector<InputModel> opened_;                     // as in Recipe::models; none with modules_
  std::vector<const InputModel*> models_;
  const InputModel* main_ = nullptr;
  std::vector<size_t> merged_;                           // into Recipe::models
  std::map<std::string, Missing, std::less<>> missing_;  // main()'s tensors that others lack
  std::vector<OutputTensor> tensors_;
  TokenizerChange tokenizer_;
  Fp8Matrices fp8_;
  std::vector<std::string> notes_;  // on what was done to make the models fit together
  int64_t layers_ = 0;
};

}  // namespace lewis
