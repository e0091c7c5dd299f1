#include "merge/sources/shown_source.h"

#include <algorithm>
#include <map>

#include "io/tensor_names.h"
#include "recipe/layer_stacks.h"

namespace lewis {
namespace {

class ShownSource final : public TensorSource {
 public:
  ShownSource(SourcePtr source, std::vector<ShownTensor> shown) : source_(std::move(source)) {
    std::ranges::sort(shown, {}, &ShownTensor::name);
    for (ShownTensor& t : shown) {
      tensors_.push_back(*t.stored);
      tensors_.back().name = std::move(t.name);
      stored_.push_back(t.stored);
    }
  }

  const std::string& label() const override { return source_->label(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const override {
    source_->read(stored(tensor), first, out);
  }
  ReadCost read_cost(const TensorInfo& tensor) const override {
    return source_->read_cost(stored(tensor));
  }

 private:
  const TensorInfo& stored(const TensorInfo& tensor) const {
    return *stored_[static_cast<size_t>(&get(tensor.name) - tensors_.data())];
  }

  SourcePtr source_;
  std::vector<TensorInfo> tensors_;
  std::vector<const TensorInfo*> stored_;  // of each, in source_
};

std::vector<ShownTensor> all_of(const TensorSource& source) {
  std::vector<ShownTensor> all;
  for (const TensorInfo& t : source.tensors()) all.push_back({t.name, &t});
  return all;
}

// Where the number of a layer begins in a name; 0 where there is none.
size_t before_layer(const std::string& name) {
  const LayerName parts = split_layer(name);
  return parts.layer ? parts.prefix.size() : 0;
}

}  // namespace

SourcePtr show_tensors(SourcePtr source, std::vector<ShownTensor> tensors) {
  return std::make_shared<const ShownSource>(std::move(source), std::move(tensors));
}

SourcePtr without_tensors(SourcePtr source,
                          const std::function<bool(const TensorInfo&)>& leave_out) {
  std::vector<ShownTensor> shown = all_of(*source);
  const size_t before = shown.size();
  std::erase_if(shown, [&](const ShownTensor& t) { return leave_out(*t.stored); });
  return shown.size() == before ? source : show_tensors(std::move(source), std::move(shown));
}

SourcePtr with_copy(SourcePtr source, const TensorInfo& tensor, const std::string& name) {
  std::vector<ShownTensor> shown = all_of(*source);
  shown.push_back({name, &source->get(tensor.name)});
  return show_tensors(std::move(source), std::move(shown));
}

Respelled respelled(SourcePtr source, const TensorSource& main) {
  Respelled result;
  const NameIndex names(main), own(*source);
  std::vector<ShownTensor> shown = all_of(*source);
  std::map<std::string, std::string> stacks;  // prefixes of layers, own -> in main
  for (ShownTensor& t : shown) {
    const TensorInfo* in_main = names.find(t.name);
    // Only what both sides mean by one name: neither may have two tensors of that spelling.
    if (!in_main || in_main->name == t.name || own.find(in_main->name) != t.stored) continue;
    if (result.renamed++ == 0) {
      result.first = t.name;
      result.first_in_main = in_main->name;
    }
    t.name = in_main->name;
    if (const size_t own_end = before_layer(t.stored->name))
      stacks[t.stored->name.substr(0, own_end)] = t.name.substr(0, before_layer(t.name));
  }
  // Layers that `main` has fewer of.
  for (ShownTensor& t : shown) {
    const auto stack = stacks.find(t.name.substr(0, before_layer(t.name)));
    if (t.name != t.stored->name || stack == stacks.end() || names.find(t.name)) continue;
    t.name = stack->second + t.name.substr(stack->first.size());
    ++result.renamed;
  }
  result.source = result.renamed ? show_tensors(source, std::move(shown)) : source;
  return result;
}

}  // namespace lewis
