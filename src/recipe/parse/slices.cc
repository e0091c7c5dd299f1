// `slices:`: layers of several models, one slice upon the other.
#include "recipe/parse/recipe_reader.h"

namespace lewis {

using Kind = YamlNode::Kind;

void RecipeReader::read_slices(const YamlNode& list, Recipe& r) const {
  if (list.kind != Kind::kList || list.items.empty())
    fail(list.line, "'slices' must be a list of slices");
  for (const YamlNode& item : list.items) r.slices.push_back(slice_of(item, r));
}

OutputSlice RecipeReader::slice_of(const YamlNode& node, Recipe& r) const {
  check_keys(node, {"sources", "parameters", "base_model", "residual_weight"}, "a slice");
  OutputSlice slice;
  slice.line = node.line;
  slice.parameters = parameters_in(node, ParameterScope::kWhole);
  const YamlNode& sources = need(node, "sources");
  if (sources.kind != Kind::kList || sources.items.empty())
    fail(sources.line, "'sources' must be a list of models with layer_range");
  for (const YamlNode& source : sources.items) add_source(source, slice, r);
  if (const YamlNode* base = given(node, "base_model"))
    slice.base_index = add_model(*base, "base_model", r);
  return slice;
}

void RecipeReader::add_source(const YamlNode& node, OutputSlice& slice, Recipe& r) const {
  check_keys(node, {"model", "layer_range", "parameters"}, "a source");
  SliceSource source;
  source.model = add_model(need(node, "model"), "model", r);
  const YamlNode& range = need(node, "layer_range");
  if (range.kind != Kind::kList || range.items.size() != 2)
    fail(range.line, "layer_range must be [first, end)");
  source.begin = static_cast<int64_t>(count(range.items[0], "layer_range"));
  source.end = static_cast<int64_t>(count(range.items[1], "layer_range"));
  if (source.begin >= source.end)
    fail(range.line, fmt::format("layer_range [{}, {}) holds no layer", source.begin, source.end));
  source.parameters = parameters_in(node, ParameterScope::kModel);
  for (const SliceSource& other : slice.sources) {
    if (other.model == source.model) fail(node.line, "a slice has the same model twice");
    if (other.end - other.begin != source.end - source.begin)
      fail(range.line, fmt::format("layer_range has {} layers, the slice's first source {}",
                                   source.end - source.begin, other.end - other.begin));
  }
  slice.sources.push_back(std::move(source));
}

}  // namespace lewis
