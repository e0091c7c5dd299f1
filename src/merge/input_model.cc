#include "merge/input_model.h"

#include <algorithm>
#include <iterator>

#include "base/config_json.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/model_files.h"
#include "io/cast_source.h"
#include "io/checkpoint.h"
#include "io/gguf.h"
#include "io/layer_kinds.h"
#include "io/model_folder.h"
#include "io/plain_source.h"
#include "io/quantization.h"
#include "io/tied_head.h"
#include "merge/sources/adapter_source.h"
#include "merge/sources/expert_order.h"
#include "merge/sources/fused_rows.h"
#include "merge/sources/merged_source.h"
#include "merge/sources/shown_source.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// Quantised weights become plain ones; config.json then no longer speaks of them.
void make_plain(InputModel& model) {
  QuantizedStore store{model.source, nullptr, model.config_text, model.config};
  PlainModel plain = show_plain(std::move(model.source), *model.config);
  model.source = std::move(plain.source);
  std::ranges::move(plain.notes, std::back_inserter(model.notes));
  if (!plain.was_quantized) return;
  store.shown = model.source;
  model.quantized = std::make_shared<const QuantizedStore>(std::move(store));
  remove_quantization(*model.config);
  model.config_text = config_text(*model.config);
}

// A head that config.json ties to the embeddings may be stored all the same. An equal copy must not
// be merged: nobody reads it, and with random masks, which depend on names, it would come out
// different. One with values of its own is what transformers uses.
void settle_tied_head(InputModel& model) {
  const HeadTensors found = find_head(model.source->tensors());
  if (!found.head || !found.embedding || !config_ties_head(*model.config)) return;
  const std::string head = found.head->name, embedding = found.embedding->name;
  if (holds_own_head(*model.source, found, true)) {
    model.notes.push_back(fmt::format(
        "{}: config.json ties {} to {}, but they are stored with different values: they are two "
        "tensors here, as in transformers",
        model.label(), head, embedding));
    return;
  }
  model.notes.push_back(
      fmt::format("{}: {} is stored with the values of {}, to which config.json ties it: they are "
                  "one tensor here",
                  model.label(), head, embedding));
  model.source =
      without_tensors(std::move(model.source), [&](const TensorInfo& t) { return t.name == head; });
}

InputModel open_folder(const fs::path& folder, std::shared_ptr<const FarFiles> far) {
  InputModel model;
  const auto checkpoint =
      std::make_shared<const Checkpoint>(Checkpoint::open(folder, std::move(far)));
  model.source = checkpoint;
  model.folder = folder;
  model.fingerprint = [checkpoint] { return checkpoint->fingerprint(); };
  model.notes = checkpoint->notes();
  if (has_model_file(folder, "config.json")) {
    model.config_text = read_model_file(folder, "config.json");
    model.config = checkpoint->config();
  }
  make_plain(model);
  settle_tied_head(model);
  return model;
}

InputModel open_file(const fs::path& file, const OpenOptions& options) {
  if (!options.gguf)
    throw failed_error("{}: there is nothing here that opens GGUF files", file.string());
  InputModel model = options.gguf(file);
  settle_tied_head(model);
  return model;
}

void note_adapter(InputModel& model, const AdaptedModel& adapted) {
  std::ranges::copy(adapted.notes, std::back_inserter(model.notes));
  if (adapted.renamed == 0) return;
  model.notes.push_back(
      fmt::format("{}: the adapter spells the names of {} tensor{} otherwise than the model: they "
                  "are taken for "
                  "the same",
                  adapted.source->label(), adapted.renamed, adapted.renamed == 1 ? "" : "s"));
}

// The adapter on the model, as the options ask for it.
AdaptedModel adapted_by(const SourcePtr& base, const fs::path& folder, const OpenOptions& options) {
  AdaptedModel adapted = adapt(base, folder, options.misreading);
  if (!options.adapted_as_f32) return adapted;
  std::map<std::string, DType> types;
  for (const std::string& name : adapted.changed) {
    const DType dtype = base->get(name).dtype;
    if (is_arithmetic(dtype) && dtype != DType::kF32) types[name] = DType::kF32;
  }
  if (types.empty()) return adapted;
  return adapt(shown_as(base, types), folder, options.misreading);
}

// A tied model gets its head shown while an adapter is applied, so that the adapter can change head
// and embeddings apart, as it was trained to. If they are equal afterwards, they are one again.
void apply_adapter(InputModel& model, const fs::path& folder, const OpenOptions& options) {
  const SourcePtr plain = model.source;
  const HeadTensors found = find_head(plain->tensors());
  if (!found.embedding || found.head) {
    AdaptedModel adapted = adapted_by(plain, folder, options);
    note_adapter(model, adapted);
    model.source = std::move(adapted.source);
    return;
  }
  const std::string embedding = found.embedding->name, head = head_name_beside(embedding);
  AdaptedModel adapted = adapted_by(with_copy(plain, *found.embedding, head), folder, options);
  const auto changes = [&](const std::string& name) {
    return std::ranges::find(adapted.changed, name) != adapted.changed.end();
  };
  note_adapter(model, adapted);
  const bool of_head = changes(head), of_embedding = changes(embedding);
  if (of_embedding && !of_head && adapted.keeps_ties) {
    model.source = adapted_by(plain, folder, options).source;
    return;
  }
  const TensorSource& all = *adapted.source;
  const auto is_head = [&](const TensorInfo& t) { return t.name == head; };
  if ((!of_head && !of_embedding) || same_values(all, all.get(embedding), all.get(head))) {
    model.source = without_tensors(adapted.source, is_head);
    return;
  }
  model.source = adapted.source;
  model.notes.push_back(fmt::format(
      "{}: the adapter changes {}{} of a model whose head is tied to its embeddings: head and "
      "embeddings are two tensors here",
      model.label(), of_embedding ? embedding : head,
      of_embedding && of_head ? " and " + head + " in different ways" : ""));
}

// An adapter with a larger vocabulary brings the number of its rows and its own tokenizer.
void take_vocabulary(InputModel& model, int64_t rows_before, const fs::path& adapter) {
  const HeadTensors found = find_head(model.source->tensors());
  if (!found.embedding || found.embedding->shape[0] == rows_before) return;
  const int64_t rows = found.embedding->shape[0];
  Json& text = text_part(*model.config);
  if (text.contains("vocab_size")) text["vocab_size"] = rows;
  model.config_text = config_text(*model.config);
  const ModelFiles own(adapter);
  const bool has_tokenizer = own.read("tokenizer.json").has_value();
  if (has_tokenizer) {
    for (const std::string& name : tokenizer_files_of(own)) {
      if (auto content = own.read(name)) model.changed_files[name] = content;
    }
  }
  model.notes.push_back(fmt::format(
      "{}: the adapter has {} rows of embeddings, its base {}: the model has the adapter's{}",
      model.label(), rows, rows_before,
      has_tokenizer ? ", and its tokenizer"
                    : "; the adapter brings no tokenizer.json, so the base's stays"));
}

InputModel in_memory(const std::string& name, std::shared_ptr<const TensorSource> source) {
  InputModel model;
  model.name = name;
  model.source = std::move(source);
  model.fingerprint = [] { return std::string(); };
  return model;
}

}  // namespace

int64_t InputModel::text_integer(std::string_view key) const {
  const Json& text = text_part(*config);
  const auto size = text.find(std::string(key));
  return size != text.end() && size->is_number_integer() ? size->get<int64_t>() : 0;
}

std::string fingerprint(const TokenizerChange& change) {
  std::string all = change.plan ? fingerprint(*change.plan) : "";
  for (const auto& [name, content] : change.files)
    all += name + (content ? sha256_hex(*content) : "-");
  return all.empty() ? "" : sha256_hex(all);
}

namespace {

InputModel open_as_stored(const RecipeModel& model, const OpenOptions& options) {
  const auto given = options.in_memory.find(model.model);
  if (given != options.in_memory.end()) return in_memory(given->first, given->second);
  if (!model.stage && model.folder.empty())
    throw usage_error("model {}: its tensors are not given, though the recipe was made for tensors",
                      model.model);
  InputModel opened = model.stage                  ? open_stage(*model.stage, options)
                      : is_gguf_path(model.folder) ? open_file(model.folder, options)
                                                   : open_folder(model.folder, model.far);
  opened.name = model.model;
  if (model.adapter.empty()) return opened;
  const HeadTensors before = find_head(opened.source->tensors());
  const int64_t rows = before.embedding ? before.embedding->shape[0] : 0;
  apply_adapter(opened, model.adapter, options);
  take_vocabulary(opened, rows, model.adapter);
  opened.fingerprint = [base = opened.fingerprint, adapter = model.adapter] {
    return sha256_hex(base() + adapter_fingerprint(adapter));
  };
  return opened;
}

}  // namespace

namespace {

// The groups of experts that a router which is limited to some of them chooses from; 1: it is not.
int64_t groups_of_experts(const InputModel& model) {
  const int64_t groups = model.text_integer("n_group"), chosen = model.text_integer("topk_group");
  return groups > 1 && chosen < groups ? groups : 1;
}

std::string order_note(const OrderedExperts& order, const std::string& model,
                       const std::string& main) {
  return fmt::format(
      "{}: {} experts of {} layer{} stand in another order than in {}, by routers and weights: "
      "they "
      "are shown in the order of {} (expert_order: keep leaves them where they are)",
      model, order.experts, order.layers, order.layers == 1 ? "" : "s", main, main);
}

// Shows the experts in the order of `like`, which is opened only for a model that has some.
void settle_expert_order(InputModel& model, const RecipeModel& like, const OpenOptions& options) {
  if (!has_experts(*model.source)) return;
  OpenOptions plain = options;
  plain.refined.reset();
  const InputModel main = open_input(like, plain);
  Threads threads(options.threads);
  OrderedExperts order =
      order_experts(model.source, *main.source, groups_of_experts(model), threads);
  if (order.unclear > 0) {
    model.notes.push_back(fmt::format(
        "{}: the experts of {} layer{} ({} first) are clearly those of {} in no order: they stay "
        "where they are",
        model.label(), order.unclear, order.unclear == 1 ? "" : "s", order.first_unclear,
        main.label()));
  }
  if (order.experts == 0) return;
  model.notes.push_back(order_note(order, model.label(), main.label()));
  model.source = std::move(order.source);
  model.moved_experts = order.experts;
  model.fingerprint = [own = model.fingerprint, key = std::move(order.key)] {
    return sha256_hex(own() + key);
  };
}

}  // namespace

InputModel open_input(const RecipeModel& model, const OpenOptions& options) {
  InputModel opened = open_as_stored(model, options);
  SplitExperts split = split_experts(opened.source, *opened.config);
  opened.source = std::move(split.source);
  if (!split.fused.empty()) opened.fused_experts = std::move(split.fused);
  if (model.experts_like) settle_expert_order(opened, *model.experts_like, options);
  return opened;
}

void fit_layers(InputModel& model, const InputModel& main) {
  FittedRows fitted = fit_rows(model.source, *main.source);
  if (fitted.changed > 0) {
    model.source = std::move(fitted.source);
    model.notes.push_back(fmt::format(
        "{}: {} tensor{} stored in another way than in {}, fused or in parts ({} first)",
        model.label(), fitted.changed, fitted.changed == 1 ? " is" : "s are", main.label(),
        fitted.first));
  }
  if (model.fused_experts.empty() != main.fused_experts.empty()) {
    model.notes.push_back(
        fmt::format("{}: experts are {} here and {} in {}: they are merged one by one",
                    model.label(), model.fused_experts.empty() ? "tensors of their own" : "fused",
                    model.fused_experts.empty() ? "fused" : "tensors of their own", main.label()));
  }
}

void respell(InputModel& model, const InputModel& main) {
  Respelled result = respelled(model.source, *main.source);
  if (result.renamed == 0) return;
  model.source = std::move(result.source);
  model.notes.push_back(
      fmt::format("{}: {} tensor{} by other names than in {}: {} is taken for its {}",
                  model.label(), result.renamed, result.renamed == 1 ? " goes" : "s go",
                  main.label(), result.first, result.first_in_main));
  model.fingerprint = [own = model.fingerprint, name = result.first_in_main] {
    return sha256_hex(own() + name);
  };
}

}  // namespace lewis
