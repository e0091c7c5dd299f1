#include "merge/input_model.h"

#include "base/hash.h"
#include "base/json.h"
#include "base/model_files.h"
#include "io/checkpoint.h"
#include "merge/sources/adapter_source.h"
#include "merge/sources/fp8_source.h"
#include "merge/sources/merged_source.h"
#include "merge/sources/quantization.h"
#include "merge/sources/tied_source.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// Float8 weights become plain ones; config.json then no longer speaks of them.
void widen(InputModel& model) {
  WidenedSource widened = widen_fp8(model.source, *model.config);
  model.source = std::move(widened.source);
  if (widened.untrue_config_key.empty()) return;
  model.config->erase(widened.untrue_config_key);
  model.config_text = model.config->dump(2) + "\n";
}

InputModel open_folder(const fs::path& folder) {
  InputModel model;
  const auto checkpoint = std::make_shared<const Checkpoint>(Checkpoint::open(folder));
  model.source = checkpoint;
  model.folder = folder;
  model.fingerprint = [checkpoint] { return checkpoint->fingerprint(); };
  model.notes = checkpoint->notes();
  if (has_model_file(folder, "config.json")) {
    model.config_text = read_model_file(folder, "config.json");
    model.config = checkpoint->config();
  }
  refuse_packed(*model.config, model.label());
  widen(model);
  if (model.config->value("tie_word_embeddings", Json()) == true)
    model.source = without_tied_head(std::move(model.source), model.vocab_size());
  return model;
}

InputModel in_memory(const std::string& name, std::shared_ptr<const TensorSource> source) {
  InputModel model;
  model.name = name;
  model.source = std::move(source);
  model.fingerprint = [] { return std::string(); };
  return model;
}

}  // namespace

int64_t InputModel::vocab_size() const {
  const Json& text = config->contains("text_config") ? config->at("text_config") : *config;
  const Json size = text.is_object() ? text.value("vocab_size", Json()) : Json();
  return size.is_number_integer() ? size.get<int64_t>() : 0;
}

std::string fingerprint(const TokenizerChange& change) {
  std::string all = change.plan ? fingerprint(*change.plan) : "";
  for (const auto& [name, content] : change.files)
    all += name + (content ? sha256_hex(*content) : "-");
  return all.empty() ? "" : sha256_hex(all);
}

InputModel open_input(const RecipeModel& model, const OpenOptions& options) {
  const auto given = options.in_memory.find(model.model);
  if (given != options.in_memory.end()) return in_memory(given->first, given->second);
  InputModel opened = model.stage ? open_stage(*model.stage, options) : open_folder(model.folder);
  opened.name = model.model;
  if (model.adapter.empty()) return opened;
  opened.source = with_adapter(std::move(opened.source), model.adapter);
  opened.fingerprint = [base = opened.fingerprint, adapter = model.adapter] {
    return sha256_hex(base() + adapter_fingerprint(adapter));
  };
  return opened;
}

}  // namespace lewis
