#include "io/expert_tensors.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "base/dtype.h"
#include "base/error.h"
#include "base/json.h"
#include "io/layer_kinds.h"
#include "io/layer_name.h"

namespace lewis {
namespace {

struct Spelling {
  std::string_view first, down;
  bool gate = true;
};
constexpr auto kSpellings = std::to_array<Spelling>({
    {"experts.gate_up_proj", "experts.down_proj"},
    {"experts.gate_up_proj.weight", "experts.down_proj.weight"},
    {"experts.up_proj", "experts.down_proj", false},
    {"input_linear.weight", "output_linear.weight"},  // Granite
});

constexpr auto kOldNames = std::to_array<std::pair<std::string_view, std::string_view>>(
    {{"w1", "gate_proj"}, {"w3", "up_proj"}, {"w2", "down_proj"}});

// The sizes of the experts of one layer.
struct Sizes {
  int64_t experts = 0, inner = 0, hidden = 0;
};

// The experts of one layer as they are stored; null where there is no such tensor.
struct StoredExperts {
  std::string place;
  ExpertLayout layout;
  Sizes sizes;
  const TensorInfo *first = nullptr, *down = nullptr, *first_bias = nullptr, *down_bias = nullptr;
};

std::string_view type_in_config(const Json& config) {
  const Json& text = text_part(config);
  for (const Json* part : {&text, &config}) {
    const auto type = part->find("model_type");
    if (type != part->end() && type->is_string())
      return std::string_view(type->get_ref<const std::string&>());
  }
  return {};
}

bool is_stack(const TensorInfo* tensor) {
  return tensor && tensor->shape.size() == 3 && is_arithmetic(tensor->dtype) &&
         element_count(tensor->shape) > 0;
}

// Finds out which way round the matrices are: of experts with a gate their shapes say it, of others
// hidden_size.
std::optional<Sizes> sizes_of(const TensorInfo& first, const TensorInfo& down, bool gate,
                              bool transposed, int64_t hidden) {
  const int64_t out = first.shape[transposed ? 2 : 1], in = first.shape[transposed ? 1 : 2];
  const int64_t inner = down.shape[transposed ? 1 : 2], back = down.shape[transposed ? 2 : 1];
  const bool fits = in == back && out == (gate ? 2 : 1) * inner && down.shape[0] == first.shape[0];
  if (!fits || (!gate && hidden > 0 && in != hidden)) return std::nullopt;
  return Sizes{first.shape[0], inner, in};
}

std::optional<StoredExperts> find_experts(const TensorSource& source, const TensorInfo& tensor,
                                          const Spelling& spelling, const Json& config) {
  const std::string end = "." + std::string(spelling.first);
  if (!tensor.name.ends_with(end) || !is_stack(&tensor)) return std::nullopt;
  StoredExperts found;
  found.place = tensor.name.substr(0, tensor.name.size() - spelling.first.size());
  found.layout = {std::string(spelling.first), std::string(spelling.down), spelling.gate};
  found.first = &tensor;
  found.down = source.find(found.place + found.layout.down);
  if (!is_stack(found.down) || found.down->dtype != tensor.dtype) return std::nullopt;
  const Json& text = text_part(config);
  const auto hidden = text.find("hidden_size");
  const int64_t width =
      hidden != text.end() && hidden->is_number_integer() ? hidden->get<int64_t>() : 0;
  for (const bool transposed : {false, true}) {
    const auto sizes = sizes_of(tensor, *found.down, spelling.gate, transposed, width);
    if (!sizes) continue;
    found.sizes = *sizes;
    found.layout.transposed = transposed;
    const auto bias = [&](const std::string& name, int64_t n) -> const TensorInfo* {
      const TensorInfo* t = source.find(found.place + name + "_bias");
      return t && t->shape == Shape{sizes->experts, n} && is_arithmetic(t->dtype) ? t : nullptr;
    };
    found.first_bias = bias(found.layout.first, (spelling.gate ? 2 : 1) * sizes->inner);
    found.down_bias = bias(found.layout.down, sizes->hidden);
    found.layout.interleaved = spelling.gate && type_in_config(config) == "gpt_oss";
    return found;
  }
  return std::nullopt;
}

// Where a linear layer of an expert lies in the tensor of all.
Strides weight_place(const ExpertLayout& layout, const Sizes& s, int64_t expert,
                     std::string_view linear) {
  const bool down = linear == "down_proj";
  const int64_t out = down ? s.hidden : s.inner, in = down ? s.inner : s.hidden;
  const int64_t parts = !down && layout.gate ? 2 : 1, all = parts * out;
  const int64_t place = parts == 2 && linear == "up_proj" ? 1 : 0;
  const int64_t step = layout.interleaved ? parts : 1;
  const int64_t first_out = layout.interleaved ? place : place * out;
  Strides strides = {expert * all * in, out, in, 0, 1};
  strides.row_step = step * (layout.transposed ? 1 : in);
  strides.column_step = layout.transposed ? all : 1;
  strides.first += first_out * (layout.transposed ? 1 : in);
  return strides;
}

Strides bias_place(const ExpertLayout& layout, const Sizes& s, int64_t expert,
                   std::string_view linear) {
  ExpertLayout rows = layout;
  rows.transposed = false;
  Sizes one = s;
  (linear == "down_proj" ? one.inner : one.hidden) = 1;  // a bias is a weight of one input
  return weight_place(rows, one, expert, linear);
}

std::string expert_tensor(const std::string& place, int64_t expert, std::string_view linear,
                          bool bias) {
  return fmt::format("{}experts.{}.{}.{}", place, expert, linear, bias ? "bias" : "weight");
}

std::vector<std::string_view> linears_of(const ExpertLayout& layout) {
  if (!layout.gate) return {"up_proj", "down_proj"};
  return {"gate_proj", "up_proj", "down_proj"};
}

void take_apart(const StoredExperts& stored, std::vector<PiecedTensor>& shown) {
  for (int64_t e = 0; e < stored.sizes.experts; ++e) {
    for (const std::string_view linear : linears_of(stored.layout)) {
      const bool down = linear == "down_proj";
      const Strides place = weight_place(stored.layout, stored.sizes, e, linear);
      const TensorInfo* from = down ? stored.down : stored.first;
      shown.push_back({{expert_tensor(stored.place, e, linear, false),
                        from->dtype,
                        {place.rows, place.columns}},
                       {{from, place}}});
      const TensorInfo* bias = down ? stored.down_bias : stored.first_bias;
      if (!bias) continue;
      const Strides at = bias_place(stored.layout, stored.sizes, e, linear);
      shown.push_back(
          {{expert_tensor(stored.place, e, linear, true), bias->dtype, {at.rows}}, {{bias, at}}});
    }
  }
}

// ---- the way back ----

// The experts of one layer, tensor by tensor.
struct ExpertGroup {
  std::map<std::pair<std::string, bool>, std::map<int64_t, const TensorInfo*>> tensors;
};

class Fusing {
 public:
  Fusing(std::string place, const ExpertLayout& layout, const ExpertGroup& group)
      : place_(std::move(place)), layout_(layout), group_(group) {
    const TensorInfo& up = get("up_proj", 0, false);
    if (up.shape.size() != 2) throw refusal(up.name, "is no matrix");
    const auto& ups = group_.tensors.at({"up_proj", false});
    sizes_ = {static_cast<int64_t>(ups.size()), up.shape[0], up.shape[1]};
  }

  void run(std::vector<WrittenTensor>& written) const {
    for (const bool down : {false, true}) {
      const std::string& name = down ? layout_.down : layout_.first;
      written.push_back(fused(name, down, false));
      if (group_.tensors.contains({down ? "down_proj" : "up_proj", true}))
        written.push_back(fused(name + "_bias", down, true));
    }
  }

 private:
  WrittenTensor fused(const std::string& name, bool down, bool bias) const {
    WrittenTensor result;
    std::vector<std::string_view> linears = {"down_proj"};
    if (!down)
      linears = layout_.gate ? std::vector<std::string_view>{"gate_proj", "up_proj"}
                             : std::vector<std::string_view>{"up_proj"};
    const auto parts = static_cast<int64_t>(linears.size());
    const int64_t out = parts * (down ? sizes_.hidden : sizes_.inner);
    const int64_t in = down ? sizes_.inner : sizes_.hidden;
    result.info = {place_ + name, get(linears[0], 0, bias).dtype, {sizes_.experts, out}};
    if (!bias) result.info.shape.push_back(in);
    if (!bias && layout_.transposed) std::swap(result.info.shape[1], result.info.shape[2]);
    for (int64_t e = 0; e < sizes_.experts; ++e) {
      for (const std::string_view linear : linears) {
        const TensorInfo& t = get(linear, e, bias);
        const Strides at = bias ? bias_place(layout_, sizes_, e, linear)
                                : weight_place(layout_, sizes_, e, linear);
        const Shape shape = bias ? Shape{at.rows} : Shape{at.rows, at.columns};
        if (t.shape != shape || t.dtype != result.info.dtype) {
          throw refusal(t.name, fmt::format("is {} {}, expected {} {}", dtype_name(t.dtype),
                                            to_string(t.shape), dtype_name(result.info.dtype),
                                            to_string(shape)));
        }
        result.parts.push_back({t.name, at});
      }
    }
    return result;
  }

  const TensorInfo& get(std::string_view linear, int64_t expert, bool bias) const {
    const auto all = group_.tensors.find({std::string(linear), bias});
    const std::string name = expert_tensor(place_, expert, linear, bias);
    if (all == group_.tensors.end()) throw refusal(name, "is missing");
    const auto found = all->second.find(expert);
    if (found == all->second.end()) throw refusal(name, "is missing");
    return *found->second;
  }

  static Error refusal(const std::string& name, const std::string& what) {
    return input_error(
        "tensor {} {}: the experts of its layer cannot be written as one tensor; `experts: split` "
        "writes them one by one",
        name, what);
  }

  std::string place_;
  const ExpertLayout& layout_;
  const ExpertGroup& group_;
  Sizes sizes_;
};

}  // namespace

std::optional<ExpertName> split_expert_name(std::string_view name) {
  constexpr std::string_view kExperts = ".experts.";
  const size_t at = name.find(kExperts);
  if (at == std::string_view::npos) return std::nullopt;
  ExpertName result;
  result.place = name.substr(0, at + 1);
  std::string_view rest = name.substr(at + kExperts.size());
  const char* end = rest.data() + rest.size();
  const auto [stop, error] = std::from_chars(rest.data(), end, result.expert);
  if (error != std::errc() || stop == end || *stop != '.' || result.expert < 0) return std::nullopt;
  rest.remove_prefix(static_cast<size_t>(stop - rest.data()) + 1);
  const size_t dot = std::min(rest.find('.'), rest.size());
  result.linear = rest.substr(0, dot);
  rest.remove_prefix(dot);
  for (const auto& [old, now] : kOldNames) {
    if (result.linear == old) result.linear = now;
  }
  const bool known = std::ranges::find(kOldNames, result.linear, [](const auto& pair) {
                       return std::string(pair.second);
                     }) != kOldNames.end();
  if (!known || (rest != ".weight" && rest != ".bias")) return std::nullopt;
  result.bias = rest == ".bias";
  return result;
}

std::string place_in_any_layer(std::string_view place) {
  const LayerName parts = split_layer(place);
  return parts.layer ? fmt::format("{}#{}", parts.prefix, parts.rest) : std::string(place);
}

SplitExperts split_experts(std::shared_ptr<const TensorSource> source, const Json& config) {
  FusedExperts fused;
  std::vector<PiecedTensor> shown;
  std::set<const TensorInfo*> consumed;
  for (const TensorInfo& t : source->tensors()) {
    for (const Spelling& spelling : kSpellings) {
      const auto found = find_experts(*source, t, spelling, config);
      if (!found) continue;
      fused[place_in_any_layer(found->place)] = found->layout;
      take_apart(*found, shown);
      for (const TensorInfo* part :
           {found->first, found->down, found->first_bias, found->down_bias})
        consumed.insert(part);
      break;
    }
  }
  if (fused.empty()) return {std::move(source), {}};
  for (const TensorInfo& t : source->tensors()) {
    if (!consumed.contains(&t)) shown.push_back(whole_tensor(t));
  }
  return {show_pieces(source, std::move(shown)), std::move(fused)};
}

std::vector<WrittenTensor> fuse_experts(const std::vector<TensorInfo>& tensors,
                                        const FusedExperts& fused) {
  std::vector<WrittenTensor> written;
  std::map<std::string, ExpertGroup> groups;
  for (const TensorInfo& t : tensors) {
    const auto name = fused.empty() ? std::nullopt : split_expert_name(t.name);
    if (!name || !fused.contains(place_in_any_layer(name->place))) {
      written.push_back({t, {{t.name, {}}}});
      continue;
    }
    groups[name->place].tensors[{name->linear, name->bias}][name->expert] = &t;
  }
  for (const auto& [place, group] : groups)
    Fusing(place, fused.find(place_in_any_layer(place))->second, group).run(written);
  return written;
}

}  // namespace lewis
