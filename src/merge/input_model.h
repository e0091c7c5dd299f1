// A model of a recipe, opened: a folder or a GGUF file, one of these with an adapter, or what
// another document of the recipe merges. Merging, calibration and evaluation read models through
// this.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "base/model_files.h"
#include "io/expert_tensors.h"
#include "io/gguf_types.h"
#include "io/tensor_source.h"
#include "merge/sources/adapter_config.h"
#include "merge/sources/embeddings.h"
#include "recipe/recipe.h"

namespace lewis {

// What a folder with quantised weights stores.
struct QuantizedStore {
  std::shared_ptr<const TensorSource> stored;  // codes and scales
  std::shared_ptr<const TensorSource> shown;   // the plain values that they stand for
  std::string config_text;                     // config.json, which speaks of them
  JsonBox config = JsonBox::object();
};

// A model whose weights were rounded to blocks of few bits, as GGUF files have them.
struct RoundedTensors {
  std::shared_ptr<const TensorSource> source;  // with the names of the file's model
  std::map<std::string, GgufType> types;       // of the rounded ones
};

struct InputModel {
  std::string name;  // as the recipe writes it
  std::shared_ptr<const TensorSource> source;
  std::filesystem::path folder;        // has generation_config, tokenizer and chat template
  ChangedFiles changed_files;          // for a stage: the files that differ from the folder's
  std::string config_text;             // config.json; "" when there is none
  JsonBox config = JsonBox::object();  // the same, parsed
  // A hash that changes when the model does; it does not read the weights
  // (Checkpoint::fingerprint).
  std::function<std::string()> fingerprint;
  // How the experts were stored that `source` shows one by one; empty: not in another way.
  FusedExperts fused_experts{};
  // How many experts `source` shows at the place of another (merge/sources/expert_order.h).
  size_t moved_experts = 0;
  std::shared_ptr<const QuantizedStore> quantized{};  // null: the folder's weights are plain
  std::shared_ptr<const RoundedTensors> rounded{};    // null: no weight is rounded to blocks
  // What was left out, taken apart or understood in another way while it was opened; one line each.
  std::vector<std::string> notes{};

  const std::string& label() const { return source->label(); }
  ModelFiles files() const { return {folder, changed_files}; }
  // vocab_size of config.json (that of text_config, if it has one); 0 if it has none.
  int64_t vocab_size() const { return text_integer("vocab_size"); }
  // A whole number of config.json (of its text_config, if it has one); 0 if it has none.
  int64_t text_integer(std::string_view key) const;
};

// How the tokenizer settings of a recipe change the tokenizers of its models.
struct TokenizerChange {
  std::shared_ptr<const EmbeddingPlan> plan;  // null: all rows of the embeddings stay
  ChangedFiles files;                     // tokenizer and chat template, beside the main model's
  std::map<int64_t, int64_t> renumbered;  // ids of the main model that change; -1: lost
  std::optional<int64_t> eos{};           // ends texts now; the main model's files do not name it
  std::vector<std::string> warnings;      // one line each
};
// A hash that changes when the resulting tokenizer does.
std::string fingerprint(const TokenizerChange& change);
// Builds the change from the recipe, its models and the index of the model that gives config and
// tokenizer. app/tokenizers.h provides it, since merge/ does not know tokenizers.
using TokenizerBuilder =
    std::function<TokenizerChange(const Recipe&, const std::vector<InputModel>&, size_t main)>;

// Opens a GGUF file, or the first of a model's. app/gguf/import.h provides it, since merge/ does
// not know what GGUF calls the layers of a model.
using GgufOpener = std::function<InputModel(const std::filesystem::path& file)>;

struct OpenOptions {
  uint64_t seed = 0;              // seed of a stage's random masks
  size_t threads = 0;             // number of threads that merge a stage's tensors; 0: one per core
  TokenizerBuilder tokenizers{};  // for recipes and stages with tokenizer settings
  uint64_t keep_bytes = 0;        // bytes of merged tensors that a stage keeps, see open_stage
  // Models in memory, by their names in the recipe (see parse_recipe). They have neither config nor
  // tokenizer.
  std::map<std::string, std::shared_ptr<const TensorSource>> in_memory{};
  // A model whose tensors are taken as they are stored instead of being merged (this does not
  // reach into stages); null: none.
  std::shared_ptr<const InputModel> refined{};
  // Tensors that an adapter changes are shown as F32, not rounded to the type of the model.
  bool adapted_as_f32 = false;
  Misreading misreading = Misreading::kNone;  // of adapters; not for merging
  GgufOpener gguf{};     // for models that are GGUF files; null: these are refused
  bool outputs = false;  // the caller makes all of Recipe::outputs; else a recipe of one is wanted
};

// Opens what the recipe names and proves every header. Experts that are stored as one tensor are
// shown one by one (io/expert_tensors.h), and in the order of RecipeModel::experts_like, which a
// note says where it is another one. Error(kInput) for a folder that is no model
// or whose weights are packed integers, Error(kUsage) for a stage that cannot be merged.
InputModel open_input(const RecipeModel& model, const OpenOptions& options);

// Makes a model show its tensors by the names that they have in `main`, where those differ only in
// spelling (io/tensor_names.h). A note says so.
void respell(InputModel& model, const InputModel& main);

// Makes a model show layers that it stores fused, or in parts, as `main` stores them. A note says
// so.
void fit_layers(InputModel& model, const InputModel& main);

}  // namespace lewis
