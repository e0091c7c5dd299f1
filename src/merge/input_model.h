// A model of a recipe, opened: a folder, a folder with an adapter, or what another document of the
// recipe merges. Merging, calibration and evaluation read models through this.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/model_files.h"
#include "io/tensor_source.h"
#include "merge/embeddings.h"
#include "recipe/recipe.h"

namespace lewis {

struct InputModel {
  std::string name;  // as the recipe writes it
  std::shared_ptr<const TensorSource> source;
  std::filesystem::path folder;  // that gives generation_config, tokenizer and chat template
  ChangedFiles changed_files;    // of a stage: what differs from the folder's
  std::string config_text;       // config.json; "" when there is none
  Json config = Json::object();  // the same, parsed
  // Changes when the model does; does not read the weights (Checkpoint::fingerprint).
  std::function<std::string()> fingerprint;

  const std::string& label() const { return source->label(); }
  ModelFiles files() const { return {folder, changed_files}; }
  // vocab_size of config.json (that of text_config, if it has one); 0 if it says none.
  int64_t vocab_size() const;
};

// What a recipe's tokenizer settings make of the tokenizers of its models.
struct TokenizerChange {
  std::shared_ptr<const EmbeddingPlan> plan;  // null: all rows of the embeddings stay
  ChangedFiles files;                     // tokenizer and chat template, beside the main model's
  std::map<int64_t, int64_t> renumbered;  // ids of the main model that change; -1: lost
  std::vector<std::string> warnings;      // one line each
};
// Changes when the tokenizer that comes of it does.
std::string fingerprint(const TokenizerChange& change);
// Made by those who know tokenizers (app/tokenizers.h) from the recipe, its models and which of
// them gives config and tokenizer.
using TokenizerBuilder =
    std::function<TokenizerChange(const Recipe&, const std::vector<InputModel>&, size_t main)>;

struct OpenOptions {
  uint64_t seed = 0;              // of a stage's random masks
  size_t threads = 0;             // that merge a stage's tensors; 0: one per core
  TokenizerBuilder tokenizers{};  // for recipes and stages with tokenizer settings
  uint64_t keep_bytes = 0;        // of a stage: merged tensors that stay, see open_stage
  // Models in memory, by their names in the recipe (see parse_recipe). They have neither config nor
  // tokenizer.
  std::map<std::string, std::shared_ptr<const TensorSource>> in_memory{};
  // Tensors that are taken from here, as they are stored, instead of being merged (not those of
  // stages within); null: none.
  std::shared_ptr<const InputModel> refined{};
};

// Opens what the recipe names and proves every header. Error(kInput) for a folder that is no model
// or whose weights are packed integers, Error(kUsage) for a stage that cannot be merged.
InputModel open_input(const RecipeModel& model, const OpenOptions& options);

}  // namespace lewis
