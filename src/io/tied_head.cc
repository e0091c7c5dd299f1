#include "io/tied_head.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/dtype.h"
#include "base/json.h"

namespace lewis {
namespace {

// The values of model_type whose configuration ties head and embeddings unless it says otherwise.
constexpr auto kTied = std::to_array<std::string_view>({"albert",
                                                        "bart",
                                                        "bert",
                                                        "biogpt",
                                                        "bloom",
                                                        "camembert",
                                                        "cohere",
                                                        "cohere2",
                                                        "deberta",
                                                        "deberta-v2",
                                                        "distilbert",
                                                        "electra",
                                                        "ernie4_5",
                                                        "ernie4_5_moe",
                                                        "falcon",
                                                        "gemma",
                                                        "gemma2",
                                                        "gemma3",
                                                        "gemma3_text",
                                                        "gemma3n",
                                                        "gemma3n_text",
                                                        "gemma4",
                                                        "gemma4_text",
                                                        "gpt2",
                                                        "gpt_bigcode",
                                                        "gpt_neo",
                                                        "lfm2",
                                                        "mamba",
                                                        "mbart",
                                                        "modernbert",
                                                        "mpt",
                                                        "opt",
                                                        "paligemma",
                                                        "qwen3_vl_moe_text",
                                                        "recurrent_gemma",
                                                        "roberta",
                                                        "shieldgemma2",
                                                        "smollm3",
                                                        "starcoder2",
                                                        "t5",
                                                        "t5gemma",
                                                        "vaultgemma",
                                                        "whisper",
                                                        "xglm",
                                                        "xlm-roberta",
                                                        "xlnet"});

// By the end of a name, the likeliest first.
constexpr auto kEmbeddings = std::to_array<std::string_view>(
    {"shared.weight", "embed_tokens.weight", "wte.weight", "word_embeddings.weight",
     "embed_in.weight", "tok_embeddings.weight", "embeddings.weight", "embedding.weight"});
constexpr auto kHeads = std::to_array<std::string_view>(
    {"lm_head.weight", "embed_out.weight", "output_layer.weight", "lm_head.decoder.weight",
     "cls.predictions.decoder.weight", "output.weight"});

bool is_number(std::string_view part) {
  return !part.empty() && std::ranges::all_of(part, [](char c) { return c >= '0' && c <= '9'; });
}

bool is_in_a_layer(std::string_view name) {
  while (!name.empty()) {
    const size_t dot = std::min(name.find('.'), name.size());
    if (is_number(name.substr(0, dot))) return true;
    name.remove_prefix(std::min(dot + 1, name.size()));
  }
  return false;
}

// "output.weight" is a head only as the whole name: inside of models it is much else.
bool has_end(std::string_view name, std::string_view end) {
  if (name == end) return true;
  return end != "output.weight" && name.ends_with(end) && name[name.size() - end.size() - 1] == '.';
}

template <size_t N>
const TensorInfo* find_by_end(std::span<const TensorInfo> tensors,
                              const std::array<std::string_view, N>& ends) {
  std::array<const TensorInfo*, N> found{};
  for (const TensorInfo& t : tensors) {
    for (size_t i = 0; i < N; ++i) {
      if (!has_end(t.name, ends[i]) || t.shape.size() != 2 || is_in_a_layer(t.name)) continue;
      if (!found[i] || t.name.size() < found[i]->name.size()) found[i] = &t;
    }
  }
  const auto first = std::ranges::find_if(found, [](const TensorInfo* t) { return t != nullptr; });
  return first == found.end() ? nullptr : *first;
}

std::string_view model_type_of(const Json& config) {
  const auto type = config.find("model_type");
  return type != config.end() && type->is_string()
             ? std::string_view(type->get_ref<const std::string&>())
             : std::string_view();
}

bool is_tied_by_default(const Json& config) {
  return std::ranges::find(kTied, model_type_of(config)) != kTied.end();
}

bool equal_floats(std::span<const float> a, std::span<const float> b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i] && !(std::isnan(a[i]) && std::isnan(b[i]))) return false;
  }
  return true;
}

}  // namespace

bool config_ties_head(const Json& config) {
  if (!config.is_object()) return false;
  const auto text = config.find("text_config");
  const Json* inner = text != config.end() && text->is_object() ? &*text : nullptr;
  for (const Json* part : {&config, inner}) {
    if (!part) continue;
    const auto key = part->find("tie_word_embeddings");
    if (key != part->end() && key->is_boolean()) return key->get<bool>();
  }
  if (inner && !model_type_of(*inner).empty()) return is_tied_by_default(*inner);
  return is_tied_by_default(config);
}

HeadTensors find_head(std::span<const TensorInfo> tensors) {
  return {find_by_end(tensors, kEmbeddings), find_by_end(tensors, kHeads)};
}

void untie_head(Json& config) {
  if (!config_ties_head(config)) return;
  // transformers 4 reads the key of text_config, transformers 5 that of the top.
  config["tie_word_embeddings"] = false;
  if (config.contains("text_config") && config["text_config"].is_object())
    config["text_config"]["tie_word_embeddings"] = false;
}

std::string head_name_beside(const std::string& embedding) {
  if (embedding.ends_with("embed_in.weight")) return "embed_out.weight";
  // The class that has the head keeps the embeddings under "model": what stands before that is
  // where the head is, too.
  const std::string dotted = "." + embedding;
  const size_t model = dotted.find(".model.");
  return (model == std::string::npos ? "" : embedding.substr(0, model)) + "lm_head.weight";
}

bool same_values(const TensorSource& source, const TensorInfo& a, const TensorInfo& b) {
  if (a.shape != b.shape) return false;
  const bool floats = is_arithmetic(a.dtype) && is_arithmetic(b.dtype);
  if (!floats && a.dtype != b.dtype) return false;
  constexpr int64_t kPiece = 1 << 18;
  std::vector<std::byte> of_a, of_b;
  std::vector<float> values_a, values_b;
  const int64_t count = element_count(a.shape);
  for (int64_t at = 0; at < count; at += kPiece) {
    const auto n = static_cast<size_t>(std::min(kPiece, count - at));
    of_a.resize(n * dtype_size(a.dtype));
    of_b.resize(n * dtype_size(b.dtype));
    source.read(a, at, of_a);
    source.read(b, at, of_b);
    if (a.dtype == b.dtype && of_a == of_b) continue;
    if (!floats) return false;
    values_a.resize(n);
    values_b.resize(n);
    widen(a.dtype, of_a.data(), values_a);
    widen(b.dtype, of_b.data(), values_b);
    if (!equal_floats(values_a, values_b)) return false;
  }
  return true;
}

bool holds_own_head(const TensorSource& source, const HeadTensors& found, bool tied_by_config) {
  if (!found.head) return false;
  if (!found.embedding || !tied_by_config) return true;
  return !same_values(source, *found.embedding, *found.head);
}

}  // namespace lewis
