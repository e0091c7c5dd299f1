// The files beside the weights: model card, recipe, config, tokenizer.
#pragma once

#include <string>

#include "io/tensor_writer.h"
#include "merge/inputs.h"
#include "merge/public_names.h"

namespace lewis {

// What the small files say of a merge besides its inputs.
struct CardFacts {
  std::string name;  // of the model
  const PublicNames& names;
  uint64_t seed = 0;
  uint64_t shard_bytes = 0;  // 0: as usual
  bool tokenizer = true;     // its files are copied
};

// README.md: front matter (base_model, licence, library_name, tags), method, models, how to merge
// it again, the recipe. It has no path of this machine.
std::string model_card(const MergeInputs& inputs, const CardFacts& facts);

// config.json with its "torch_dtype" or "dtype" set to the type of the weights; all else byte for
// byte.
std::string patched_config(const std::string& config, DType dtype);

// config.json of the merged model: that of inputs.main(), byte for byte, except for a dtype that
// would be wrong; for stacks of slices, the number of layers and lists by layer; for another
// tokenizer, vocab_size and the ids of tokens. "" when main() has no config.json.
std::string config_of(const MergeInputs& inputs);

// The files that differ from those of inputs.main()'s folder: tokenizer and chat template by the
// recipe, and generation_config.json where it names tokens that got other ids.
ChangedFiles changed_files_of(const MergeInputs& inputs);

// Makes and reads what add_companions adds, so that a file that cannot be read is refused before
// the work. Nothing is kept, since a tokenizer may be large. Returns the notes of add_companions.
std::vector<std::string> check_companions(const MergeInputs& inputs, bool tokenizer);

// Adds all of them to the folder. config, generation_config, tokenizer, chat templates and
// processors (io/model_folder.h) are those of inputs.main(), byte for byte, except for what the two
// functions above change and for folders of this machine (merge/published_files.h). Returns notes
// about what is left out or changed.
std::vector<std::string> add_companions(const MergeInputs& inputs, const CardFacts& facts,
                                        TensorWriter& writer);

}  // namespace lewis
