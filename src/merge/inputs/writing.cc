// MergeInputs: the spelling of the tensors that the output has (the key `experts:` of a recipe).
#include <algorithm>
#include <array>

#include "base/json.h"
#include "merge/inputs.h"

namespace lewis {
namespace {

// The values of model_type whose split experts have the names of Mixtral's: transformers knows
// mlp.experts of them in memory alone (conversion_mapping.py).
constexpr auto kMixtralNames =
    std::to_array<std::string_view>({"minimax", "minimax_m2", "mixtral", "phimoe"});

std::string main_model_type(const InputModel& model) {
  const Json& text = text_part(*model.config);
  const auto type = text.find("model_type");
  return type != text.end() && type->is_string() ? type->get<std::string>() : "";
}

bool replace(std::string& name, std::string_view from, std::string_view to) {
  const size_t at = name.find(from);
  if (at == std::string::npos) return false;
  name.replace(at, from.size(), to);
  return true;
}

// The names of a mixture whose experts are fused, and of one whose experts are not.
void name_as_fused(std::string& name, const std::string& model_type) {
  if (!replace(name, ".block_sparse_moe.", ".mlp.")) return;
  if (model_type == "phimoe") replace(name, ".mlp.gate.", ".mlp.router.");
}

void name_as_split(std::string& name) {
  const auto expert = split_expert_name(name);
  if (expert && expert->place.ends_with(".mlp.")) {
    const char* linear = expert->linear == "gate_proj" ? "w1"
                         : expert->linear == "up_proj" ? "w3"
                                                       : "w2";
    name = fmt::format("{}block_sparse_moe.experts.{}.{}.weight",
                       expert->place.substr(0, expert->place.size() - 4), expert->expert, linear);
    return;
  }
  for (const auto& [from, to] :
       {std::pair(".mlp.gate.weight", ".block_sparse_moe.gate.weight"),
        {".mlp.router.weight", ".block_sparse_moe.gate.weight"},
        {".mlp.e_score_correction_bias", ".block_sparse_moe.e_score_correction_bias"}}) {
    if (replace(name, from, to)) return;
  }
}

}  // namespace

std::vector<WrittenTensor> MergeInputs::written() const {
  std::vector<TensorInfo> outputs;
  for (const OutputTensor& t : tensors_) outputs.push_back(t.info);
  const FusedExperts& stored = main().fused_experts;
  if (recipe_.experts.value_or(ExpertTensors::kFused) == ExpertTensors::kSplit) {
    std::vector<WrittenTensor> all = fuse_experts(outputs, {});
    const bool renamed =
        !stored.empty() &&
        std::ranges::find(kMixtralNames, main_model_type(main())) != kMixtralNames.end();
    for (WrittenTensor& t : all) {
      if (renamed) name_as_split(t.info.name);
    }
    return all;
  }
  FusedExperts fused = stored;
  if (recipe_.experts) {
    for (const TensorInfo& t : outputs) {
      const auto name = split_expert_name(t.name);
      if (name && name->linear == "up_proj")
        fused.try_emplace(place_in_any_layer(name->place),
                          ExpertLayout{"experts.gate_up_proj", "experts.down_proj"});
    }
  }
  std::vector<WrittenTensor> all = fuse_experts(outputs, fused);
  for (WrittenTensor& t : all) {
    if (recipe_.experts && stored.empty()) name_as_fused(t.info.name, main_model_type(main()));
  }
  return all;
}

// The names by which filters know a tensor, one per line: an expert also by that of the tensor in
// which the base has it.
std::string MergeInputs::filter_names(const std::string& tensor) const {
  const FusedExperts& fused = main().fused_experts;
  const auto name = fused.empty() ? std::nullopt : split_expert_name(tensor);
  if (!name) return tensor;
  const auto layout = fused.find(place_in_any_layer(name->place));
  if (layout == fused.end()) return tensor;
  const ExpertLayout& its = layout->second;
  return fmt::format("{}\n{}{}", tensor, name->place,
                     name->linear == "down_proj" ? its.down : its.first);
}

}  // namespace lewis
