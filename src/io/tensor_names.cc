#include "io/tensor_names.h"

#include <algorithm>
#include <array>

namespace lewis {
namespace {

// The attributes under which transformers' classes keep the model that they wrap.
constexpr auto kModelParts = std::to_array<std::string_view>(
    {"base_model", "model", "language_model", "text_model", "transformer", "bert", "roberta",
     "distilbert", "electra", "albert", "deberta", "camembert", "xlm_roberta", "mpnet", "esm",
     "gpt_neox", "backbone"});

// What wrappers of PyTorch add, anywhere in a name.
constexpr auto kWrapperParts = std::to_array<std::string_view>(
    {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"});

struct Renaming {
  std::string_view from, to;
};
// Renamings of single parts, by what stands between dots. The first: norms of BERT's time; the
// second: the inner level of CLIP and SigLIP that transformers 5 no longer has; the others: the
// mixtures of Mixtral, MiniMax and Phi-3.5-MoE.
constexpr auto kRenamings = std::to_array<Renaming>(
    {{".LayerNorm.gamma.", ".LayerNorm.weight."},
     {".LayerNorm.beta.", ".LayerNorm.bias."},
     {".vision_tower.vision_model.", ".vision_tower."},
     {".block_sparse_moe.gate.", ".mlp.gate."},
     {".block_sparse_moe.experts.", ".mlp.experts."},
     {".block_sparse_moe.e_score_correction_bias.", ".mlp.e_score_correction_bias."},
     {".mlp.router.", ".mlp.gate."}});
// Of the experts of Mixtral and its like.
constexpr auto kExpertRenamings = std::to_array<Renaming>(
    {{".w1.", ".gate_proj."}, {".w3.", ".up_proj."}, {".w2.", ".down_proj."}});

template <size_t N>
bool is_one_of(const std::array<std::string_view, N>& parts, std::string_view part) {
  return std::ranges::find(parts, part) != parts.end();
}

// Removes wrappers' parts; the first of them is left in `extra`.
std::string unwrapped(std::string_view name, std::string* extra) {
  std::string kept;
  kept.reserve(name.size());
  for (bool first = true; !name.empty(); first = false) {
    const size_t dot = std::min(name.find('.'), name.size());
    const std::string_view part = name.substr(0, dot);
    // DataParallel's "module" is only ever the outermost attribute.
    if (is_one_of(kWrapperParts, part) || (first && part == "module")) {
      if (extra && extra->empty()) *extra = part;
    } else {
      if (!kept.empty()) kept += '.';
      kept += part;
    }
    name.remove_prefix(std::min(dot + 1, name.size()));
  }
  return kept;
}

}  // namespace

std::string canonical_name(std::string_view name, std::string* extra) {
  std::string whole = unwrapped(name, extra);
  std::string_view rest = whole;
  for (size_t dot; (dot = rest.find('.')) != std::string_view::npos;) {
    if (!is_one_of(kModelParts, rest.substr(0, dot))) break;
    rest.remove_prefix(dot + 1);
  }
  std::string dotted = "." + std::string(rest) + ".";
  for (const Renaming& r : kRenamings) {
    const size_t at = dotted.find(r.from);
    if (at != std::string::npos) dotted.replace(at, r.from.size(), r.to);
  }
  const size_t experts = dotted.find(".experts.");
  for (const Renaming& r : kExpertRenamings) {
    const size_t at = experts == std::string::npos ? experts : dotted.find(r.from, experts);
    if (at != std::string::npos) dotted.replace(at, r.from.size(), r.to);
  }
  return dotted.substr(1, dotted.size() - 2);
}

const TensorInfo* NameIndex::find(std::string_view name) const {
  if (const TensorInfo* exact = source_.find(name)) return exact;
  if (!canonical_) {
    canonical_.emplace();
    for (const TensorInfo& t : source_.tensors()) {
      const auto [place, is_new] = canonical_->try_emplace(canonical_name(t.name), &t);
      if (!is_new) place->second = nullptr;
    }
  }
  const auto found = canonical_->find(canonical_name(name));
  return found == canonical_->end() ? nullptr : found->second;
}

bool is_buffer(const TensorInfo& tensor) {
  static constexpr auto kNames = std::to_array<std::string_view>(
      {"inv_freq", "original_inv_freq", "cos_cached", "sin_cached", "masked_bias", "causal_mask",
       "position_ids", "embeddings.token_type_ids"});
  const std::string_view name = tensor.name;
  const auto ends = [&](std::string_view end) {
    return name.ends_with(end) &&
           (name.size() == end.size() || name[name.size() - end.size() - 1] == '.');
  };
  if (std::ranges::any_of(kNames, ends)) return true;
  // A causal mask [1, 1, n, n] is named as a bias would be.
  const bool mask = tensor.shape.size() == 4 && tensor.shape[0] == 1 && tensor.shape[1] == 1 &&
                    tensor.shape[2] == tensor.shape[3];
  return mask && (ends("attn.bias") || ends("attention.bias"));
}

}  // namespace lewis
