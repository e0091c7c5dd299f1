// A checkpoint that can be run: opened, understood, with its tokenizer.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "compute/backend.h"
#include "merge/input_model.h"
#include "model/transformer.h"
#include "text/chat_template.h"
#include "text/dataset.h"
#include "text/tokenizer.h"

namespace lewis {

struct RunningModel {
  InputModel input;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Transformer> transformer;
  std::optional<Tokenizer> tokenizer;  // unset for a folder without tokenizer.json
  std::vector<int32_t> stop_ids;       // end of sequence

  // `needs_tokenizer`: a folder without one is an Error(kInput).
  static std::unique_ptr<RunningModel> open(const RecipeModel& model, Threads& threads,
                                            bool needs_tokenizer, ComputeType type);
  static std::unique_ptr<RunningModel> open(InputModel input, Threads& threads,
                                            bool needs_tokenizer, ComputeType type);
};

// A model that a user names, in the form of a recipe's model: a folder, a GGUF file, or a recipe's
// file, which is merged while it is read. See guided() for a recipe that asks for guidance.
RecipeModel model_in(const std::filesystem::path& path,
                     UnknownKeys unknown = UnknownKeys::kRefused);

// config.json as a ModelSpec; Error(kInput) when the model has none.
ModelSpec spec_of(const InputModel& model);

// The format of a data file when none is given: by its ending (.txt is text, .jsonl must be said).
DataFormat format_of(const std::filesystem::path& data, std::optional<DataFormat> format);

}  // namespace lewis
