// write_adapter of merge/extraction/extract.h.
#include <algorithm>
#include <map>
#include <set>

#include "base/dump_json.h"
#include "base/error.h"
#include "base/json.h"
#include "base/markdown.h"
#include "io/file.h"
#include "io/out_folder.h"
#include "io/safetensors.h"
#include "merge/extraction/extract.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

constexpr const char *kConfig = "adapter_config.json", *kWeights = "adapter_model.safetensors";

std::string end_of(const std::string& module) { return module.substr(module.rfind('.') + 1); }

// The modules that have factors: by the end of their names where all linear layers with that end
// have some, else one by one.
Json target_modules(const ExtractedAdapter& adapter) {
  std::set<std::string> mixed;  // ends of layers without factors
  for (const std::string& module : adapter.unchanged) mixed.insert(end_of(module));
  for (const std::string& module : adapter.saved) mixed.insert(end_of(module));
  for (const ExtractedLayer& layer : adapter.layers) {
    if (layer.rank == 0 && !layer.parameter) mixed.insert(end_of(layer.module));
  }
  std::set<std::string> targets;
  for (const ExtractedLayer& layer : adapter.layers) {
    const std::string end = end_of(layer.module);
    if (layer.rank > 0 && !layer.parameter)
      targets.insert(mixed.contains(end) ? layer.module : end);
  }
  return targets;
}

// The parameters that hold fused experts, by their whole names: a layer may have one of two.
Json target_parameters(const ExtractedAdapter& adapter) {
  Json targets = Json::array();
  for (const ExtractedLayer& layer : adapter.layers) {
    if (layer.parameter && layer.rank > 0) targets.push_back(layer.module);
  }
  return targets;
}

// The rank of the experts that are stored one by one, which PEFT looks for nowhere else when it
// stacks them; else that of most layers.
int64_t usual_rank(const ExtractedAdapter& adapter) {
  std::map<int64_t, size_t> counts;
  for (const ExtractedLayer& layer : adapter.layers) {
    if (layer.expert && layer.rank > 0) return layer.rank;
    if (layer.rank > 0) ++counts[layer.rank];
  }
  if (counts.empty()) return 1;
  return std::ranges::max_element(counts, {}, [](const auto& c) { return c.second; })->first;
}

// alpha is the rank everywhere, so that the factors count as they are.
Json config_of(const ExtractedAdapter& adapter, const ExtractOptions& options) {
  const int64_t rank = usual_rank(adapter);
  Json ranks = Json::object();
  for (const ExtractedLayer& layer : adapter.layers) {
    if (layer.rank > 0 && layer.rank != rank) ranks[layer.module] = layer.rank;
  }
  Json config = {{"peft_type", "LORA"},
                 {"task_type", "CAUSAL_LM"},
                 {"base_model_name_or_path", options.base_name},
                 {"r", rank},
                 {"lora_alpha", rank},
                 {"lora_dropout", 0.0},
                 {"target_modules", target_modules(adapter)},
                 {"modules_to_save", adapter.saved.empty() ? Json() : Json(adapter.saved)},
                 {"rank_pattern", ranks},
                 {"alpha_pattern", ranks},
                 {"bias", adapter.biases.empty() ? "none" : "all"},
                 {"fan_in_fan_out", options.outputs_are_columns},
                 {"use_rslora", false},
                 {"use_dora", options.dora},
                 {"init_lora_weights", true},
                 {"inference_mode", true}};
  if (adapter.keeps_ties) config["ensure_weight_tying"] = true;
  if (const Json parameters = target_parameters(adapter); !parameters.empty()) {
    config["target_parameters"] = parameters;
    config["peft_version"] = "0.21.0";  // says which way round the factors of square matrices are
  }
  return config;
}

std::string card_of(const ExtractedAdapter& adapter, const ExtractOptions& options) {
  return fmt::format(
      "---\nbase_model: {}\nlibrary_name: peft\ntags:\n- lora\n- lewis\n---\n\n{}\n\n"
      "`lewis extract` made this {} adapter of the difference between both models: {} linear "
      "layers by factors, {} modules whole. The factors miss {:.3g} % of the change of the linear "
      "layers (Frobenius norm{}).\n",
      dump_json(Json(options.base_name)), markdown_text(options.description),
      options.dora ? "DoRA" : "LoRA",
      std::ranges::count_if(adapter.layers, [](const auto& l) { return l.rank > 0; }),
      adapter.saved.size(), 100 * adapter.error(),
      std::ranges::any_of(adapter.layers, &ExtractedLayer::weighted)
          ? ", inputs weighted by calibration text"
          : "");
}

void write_weights(const fs::path& file, const ExtractedAdapter& adapter) {
  std::vector<std::span<const std::byte>> data(adapter.data.begin(), adapter.data.end());
  write_safetensors(file, adapter.tensors, data, {{"format", "pt"}});
}

}  // namespace

void check_adapter_target(const fs::path& out, bool force) {
  if (!fs::exists(fs::symlink_status(out))) return;
  if (!force)
    throw usage_error("-o {}: exists already (--force replaces an adapter)", out.string());
  if (!fs::is_directory(out) || !(fs::is_empty(out) || fs::exists(out / kConfig)))
    throw usage_error("-o {}: is no adapter, so --force does not replace it", out.string());
}

void write_adapter(const ExtractedAdapter& adapter, const ExtractOptions& options,
                   const fs::path& folder, bool force) {
  const fs::path out = resolved_out(folder);
  check_adapter_target(out, force);
  const fs::path partial = out.string() + ".partial";
  if (fs::exists(fs::symlink_status(partial))) refuse_partial_of_others(partial);
  remove_quietly(partial);
  fs::create_directories(partial);
  write_file_durably(partial / kPartialMarker, "");
  try {
    write_weights(partial / kWeights, adapter);
    write_file_durably(partial / kConfig, dump_json(config_of(adapter, options), 2) + "\n");
    write_file_durably(partial / "README.md", card_of(adapter, options));
    sync_folder(partial);
    if (fs::exists(out)) {
      replace_folder(partial, out);
    } else {
      fs::rename(partial, out);
    }
    fs::remove(out / kPartialMarker);
    sync_folder(out.parent_path());
  } catch (...) {
    remove_quietly(partial);
    throw;
  }
}

}  // namespace lewis
