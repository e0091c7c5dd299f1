#include "app/gguf/mix.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>

#include "base/chosen_word.h"
#include "base/error.h"
#include "base/human.h"

namespace lewis {
namespace {

constexpr std::array<GgufMix, 15> kMixes = {{{"f32", GgufType::kF32, 0},
                                             {"f16", GgufType::kF16, 1},
                                             {"bf16", GgufType::kBF16, 32},
                                             {"q8_0", GgufType::kQ8_0, 7},
                                             {"q6_k", GgufType::kQ6_K, 18},
                                             {"q5_k_m", GgufType::kQ5_K, 17},
                                             {"q5_k_s", GgufType::kQ5_K, 16},
                                             {"q5_1", GgufType::kQ5_1, 9},
                                             {"q5_0", GgufType::kQ5_0, 8},
                                             {"q4_k_m", GgufType::kQ4_K, 15},
                                             {"q4_k_s", GgufType::kQ4_K, 14},
                                             {"q4_1", GgufType::kQ4_1, 3},
                                             {"q4_0", GgufType::kQ4_0, 2},
                                             {"iq4_nl", GgufType::kIQ4_NL, 25},
                                             {"mxfp4_moe", GgufType::kMXFP4, 38}}};

bool has(std::string_view name, std::string_view part) { return name.find(part) != name.npos; }

// The block that a tensor belongs to; -1: none.
int64_t layer_of(std::string_view name) {
  int64_t layer = -1;
  if (name.starts_with("blk.")) std::from_chars(name.data() + 4, name.data() + name.size(), layer);
  return layer;
}

// Blocks in which llama.cpp spends more bits: the first and last eighth, and every third between.
bool gets_more_bits(int64_t layer, int64_t layers) {
  return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

class Chooser {
 public:
  Chooser(const GgufMix& mix, const ModelSpec& spec, bool weighted, const GgufExport& e)
      : mix_(mix), spec_(spec), weighted_(weighted) {
    architecture_ = std::get<std::string>(e.metadata.at("general.architecture"));
    for (const ExportedTensor& t : e.tensors) {
      if (t.tensor.name == "output.weight") tied_ = false;
      if (is_value(t.tensor.name)) ++values_;
    }
  }

  // Called for the tensors of a file in the order of their blocks.
  GgufType wanted(const GgufTensor& t) {
    const std::string_view name = t.name;
    if (name == "output.weight" || (tied_ && name == "token_embd.weight")) return of_output(t);
    if (mix_.type == GgufType::kMXFP4)
      return t.shape.size() > 2 ? GgufType::kMXFP4 : GgufType::kQ8_0;
    if (is_value(name)) return of_value();
    if (has(name, "attn_k.weight") && eight_experts()) return GgufType::kQ8_0;
    if (has(name, "ffn_down")) return of_down(name);
    if (has(name, "attn_output.weight") && eight_experts() &&
        (mix_.type == GgufType::kQ4_K || mix_.type == GgufType::kIQ4_NL))
      return GgufType::kQ5_K;
    return mix_.type;
  }

 private:
  static bool is_value(std::string_view name) {
    return has(name, "attn_v.weight") || has(name, "attn_qkv.weight") ||
           has(name, "attn_kv_b.weight");
  }

  bool is(std::string_view name) const { return mix_.name == name; }
  bool eight_experts() const { return spec_.experts.count == 8; }

  GgufType of_output(const GgufTensor& t) const {
    if (mix_.type == GgufType::kMXFP4 || mix_.type == GgufType::kQ8_0 ||
        t.shape.back() % gguf_type(mix_.type).block != 0)
      return GgufType::kQ8_0;
    return GgufType::kQ6_K;
  }

  // llama.cpp calls a model of 80 blocks with fewer heads of keys than of queries a 70B one.
  bool is_70b() const {
    return spec_.layers == 80 && (architecture_ == "qwen2" ||
                                  (architecture_ == "llama" && spec_.heads != spec_.kv_heads));
  }

  GgufType of_value() {
    const int64_t place = value_++;
    if (eight_experts()) return GgufType::kQ8_0;
    GgufType type = mix_.type;
    if (is("iq4_nl") && spec_.kv_heads > 0 && spec_.heads / spec_.kv_heads >= 4)
      type = GgufType::kQ5_K;
    if ((is("q4_k_m") || is("q5_k_m")) && gets_more_bits(place, values_)) type = GgufType::kQ6_K;
    if (is("q4_k_s") && place < 4) type = GgufType::kQ5_K;
    return is_70b() && type == GgufType::kQ4_K ? GgufType::kQ5_K : type;
  }

  GgufType of_down(std::string_view name) {
    const int64_t layer = spec_.experts.count > 1 ? layer_of(name) : down_++;
    if ((is("q4_k_m") || is("q5_k_m")) && gets_more_bits(layer, spec_.layers))
      return GgufType::kQ6_K;
    if (layer >= spec_.layers / 8) return mix_.type;
    if (is("q4_k_s") || (is("iq4_nl") && !weighted_)) return GgufType::kQ5_K;
    if (is("q4_0") && weighted_) return GgufType::kQ4_1;
    if (is("q5_0") && weighted_) return GgufType::kQ5_1;
    return mix_.type;
  }

  const GgufMix& mix_;
  const ModelSpec& spec_;
  bool weighted_, tied_ = true;
  std::string architecture_;
  int64_t values_ = 0, value_ = 0, down_ = 0;
};

// The type of smaller blocks for rows that do not fill those of `type`.
GgufType fitting(GgufType type, int64_t columns) {
  const auto fits = [&](GgufType t) { return columns % gguf_type(t).block == 0; };
  if (fits(type)) return type;
  const GgufType smaller = type == GgufType::kQ4_K   ? GgufType::kQ5_0
                           : type == GgufType::kQ5_K ? GgufType::kQ5_1
                           : type == GgufType::kQ6_K ? GgufType::kQ8_0
                                                     : type;
  return fits(smaller) ? smaller : GgufType::kF16;
}

}  // namespace

std::span<const GgufMix> gguf_mixes() { return kMixes; }

const GgufMix& gguf_mix(std::string name) {
  if (name == "q4_k" || name == "q5_k") name += "_m";
  std::vector<std::string_view> names;
  for (const GgufMix& mix : kMixes) names.push_back(mix.name);
  return kMixes[chosen_word("--type", name, names)];
}

void choose_types(const GgufMix& mix, const ModelSpec& spec, bool weighted, GgufExport& e) {
  std::vector<ExportedTensor*> matrices;
  for (ExportedTensor& t : e.tensors) {
    if (!t.stays_f32) matrices.push_back(&t);
  }
  if (gguf_type(mix.type).block == 1) {
    for (ExportedTensor* t : matrices) t->tensor.type = mix.type;
    return;
  }
  std::ranges::stable_sort(matrices, {}, [](const ExportedTensor* t) {
    return std::pair(layer_of(t->tensor.name), std::string_view(t->tensor.name));
  });
  Chooser chooser(mix, spec, weighted, e);
  std::map<std::pair<GgufType, GgufType>, std::vector<std::string>> instead;
  for (ExportedTensor* t : matrices) {
    const GgufType wanted = chooser.wanted(t->tensor);
    t->tensor.type = fitting(wanted, t->tensor.shape.back());
    if (t->tensor.type != wanted) instead[{wanted, t->tensor.type}].push_back(t->tensor.name);
  }
  for (const auto& [types, names] : instead) {
    const GgufTypeInfo& wanted = gguf_type(types.first);
    e.notes.push_back(fmt::format("{}: rows that fill no blocks of {} ({} numbers): written as {}",
                                  some_of(names, 1), wanted.name, wanted.block,
                                  gguf_type(types.second).name));
  }
}

}  // namespace lewis
