// The targets of what stands beside a model's weights and of what a model answers.
#include "model_targets.h"

#include <lewis/tensor_source.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/model_files.h"
#include "eval/answers/gsm8k_answer.h"
#include "eval/answers/ifeval.h"
#include "io/checkpoint.h"
#include "io/layer_kinds.h"
#include "io/plain_source.h"
#include "io/quantization.h"
#include "io/tied_head.h"
#include "merge/sources/adapter_source.h"
#include "model/model_spec.h"
#include "text/tokenizer_merge.h"

namespace lewis {
namespace {

// The readers are independent: one that refuses does not keep the others from reading.
template <typename Reader>
void read_on(const Reader& reader) {
  try {
    reader();
  } catch (const Error&) {
  }
}

}  // namespace

void read_config(std::string_view bytes, const FuzzFolder&) {
  const Json config = parse_json(bytes, "config.json");
  read_on([&] { read_model_spec(config, "config.json"); });
  read_on([&] { refuse_packed(config, "model"); });
  read_on([&] { read_quantization(config, "model"); });
  read_on([&] { config_ties_head(config); });
  read_on([&] {
    const Json& text = text_part(config);
    std::vector<LayerOrigin> layers;
    for (int64_t layer : {0, 1, 1, 2}) layers.push_back({&text, layer, "model"});
    Json stack = text;
    stack_layer_kinds(layers, stack);
    for (size_t i = 0; i < layers.size(); ++i) {
      const Json kind = layer_kind(text, "layer_types", layers[i].layer);
      fuzz_check(kind.is_null() || layer_kind(stack, "layer_types", int64_t(i)) == kind,
                 "a layer of a stack keeps its kind");
    }
  });
}

void apply_adapter(std::string_view bytes, const FuzzFolder& folder) {
  static const std::array<float, 16> weights{1, 2, 3};
  const auto view = std::as_bytes(std::span(weights));
  static const auto base = memory_source(
      "base", {{{"model.embed_tokens.weight", DType::kF32, {4, 4}}, view},
               {{"model.layers.0.self_attn.q_proj.weight", DType::kF32, {4, 4}}, view},
               {{"model.layers.0.self_attn.q_proj.bias", DType::kF32, {4}}, view.first(16)},
               {{"lm_head.weight", DType::kF32, {4, 4}}, view}});
  folder.write("adapter_config.json", R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4,
      "target_modules": ["q_proj", "embed_tokens"], "modules_to_save": ["lm_head"],
      "use_dora": false, "bias": "none"})");
  folder.write("adapter_model.safetensors", bytes);
  const AdaptedModel model = adapt(base, folder.path());
  for (const TensorInfo& info : model.source->tensors()) {
    std::vector<std::byte> values(byte_size(info));
    model.source->read(info, 0, values);
  }
}

void read_quantized(std::string_view bytes, const FuzzFolder& folder) {
  const size_t end = std::min(bytes.find('\n'), bytes.size());
  folder.write("config.json", bytes.substr(0, end));
  folder.write("model.safetensors", bytes.substr(std::min(end + 1, bytes.size())));
  const PlainModel model =
      show_plain(std::make_shared<const Checkpoint>(Checkpoint::open(folder.path())));
  for (const TensorInfo& info : model.source->tensors()) {
    std::vector<std::byte> all(byte_size(info));
    if (all.size() > 1 << 20) continue;
    read_on([&] {
      model.source->read(info, 0, all);
      const size_t size = dtype_size(info.dtype), half = all.size() / size / 2;
      std::vector<std::byte> part(all.size() - half * size);
      model.source->read(info, static_cast<int64_t>(half), part);
      fuzz_check(std::equal(part.begin(), part.end(), all.end() - std::ssize(part)),
                 "a part of a tensor is what lies there in the whole");
    });
  }
}

void judge_answer(std::string_view bytes, const FuzzFolder&) {
  const size_t end = std::min(bytes.find('\n'), bytes.size());
  const std::string answer(bytes.substr(std::min(end + 1, bytes.size())));
  normalize_answer(extract_strict(answer));
  normalize_answer(extract_chain(answer));
  normalize_answer(extract_flexible(answer));
  const Json row = parse_json(bytes.substr(0, end), "row");
  const auto rules = read_ifeval_rules(row, "row");
  const IfevalVerdict verdict = check_ifeval(rules, answer);
  for (size_t i = 0; i < rules.size(); ++i)
    fuzz_check(verdict.loose.at(i) || !verdict.strict.at(i), "what holds strictly holds loosely");
}

void unite_tokenizers(std::string_view bytes, const FuzzFolder& folder) {
  const auto other = folder.path() / "other";
  std::filesystem::create_directory(other);
  folder.write("other/tokenizer.json", R"({"version": "1.0", "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null,
        "decoder": null, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2},
        "merges": ["a b"]}})");
  folder.write("tokenizer.json", bytes);
  const std::vector<TokenizerInput> models = {{ModelFiles(other), 3},
                                              {ModelFiles(folder.path()), 0}};
  const MergedTokenizer merged = merge_tokenizers({models, models[0], true, {"<new>"}});
  for (const auto& vocabulary : merged.vocabularies)
    for (const auto& [token, id] : vocabulary) fuzz_check(id >= 0, "ids of tokens have rows");
}

}  // namespace lewis
