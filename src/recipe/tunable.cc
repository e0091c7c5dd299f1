#include "recipe/tunable.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "base/suggest.h"
#include "base/text_file.h"
#include "recipe/nodes.h"

namespace lewis {
namespace {

using Kind = YamlNode::Kind;

// Calls f(path, node) for each range below the node, in the order of the text.
void for_ranges(YamlNode& node, const std::string& path,
                const std::function<void(const std::string&, YamlNode&)>& f) {
  if (is_range(node)) return f(path, node);
  for (size_t i = 0; i < node.items.size(); ++i)
    for_ranges(node.items[i], fmt::format("{}[{}]", path, i), f);
  for (auto& [key, value] : node.entries)
    for_ranges(value, path.empty() ? key.scalar : path + "." + key.scalar, f);
}

class RangeReader {
 public:
  RangeReader(const std::string& where, const std::string& path, const YamlNode& node)
      : where_(where), path_(path), node_(node) {}

  SearchRange read() const {
    static constexpr std::array<std::string_view, 3> kKeys = {"search", "scale", "start"};
    for (const auto& [key, _] : node_.entries) {
      if (std::ranges::find(kKeys, key.scalar) == kKeys.end())
        fail(fmt::format("unknown key '{}'; did you mean '{}'?", key.scalar,
                         nearest_name(key.scalar, kKeys)));
    }
    const YamlNode& bounds = *node_.find("search");
    if (bounds.items.size() != 2) fail("search must be [LOW, HIGH]");
    SearchRange range{
        .path = path_, .low = number(bounds.items[0]), .high = number(bounds.items[1])};
    if (!(range.low < range.high))
      fail(fmt::format("search [{}, {}] holds nothing to choose", range.low, range.high));
    if (const YamlNode* scale = node_.find("scale")) {
      if (scale->scalar != "log" && scale->scalar != "linear")
        fail(fmt::format("scale '{}' is not known; expected log or linear", scale->scalar));
      range.log = scale->scalar == "log";
    }
    if (range.log && range.low <= 0) fail("scale: log needs bounds above 0");
    range.start = range.log ? std::sqrt(range.low * range.high) : (range.low + range.high) / 2;
    if (const YamlNode* start = node_.find("start")) range.start = number(*start);
    if (range.start < range.low || range.start > range.high)
      fail(fmt::format("start {} is outside search [{}, {}]", range.start, range.low, range.high));
    return range;
  }

 private:
  double number(const YamlNode& n) const {
    const auto value = n.number();
    if (!value || !std::isfinite(*value)) fail("search and start must be numbers");
    return *value;
  }
  [[noreturn]] void fail(const std::string& message) const {
    throw usage_error("{}:{}: {}: {}", where_, node_.line, path_, message);
  }

  const std::string &where_, &path_;
  const YamlNode& node_;
};

}  // namespace

bool is_range(const YamlNode& node) {
  const YamlNode* search = node.kind == Kind::kMap ? node.find("search") : nullptr;
  return search && search->kind == Kind::kList;
}

struct TunableRecipe::Documents {
  std::filesystem::path file;
  std::vector<YamlNode> roots;
};

TunableRecipe::TunableRecipe() = default;
TunableRecipe::~TunableRecipe() = default;
TunableRecipe::TunableRecipe(TunableRecipe&&) noexcept = default;

TunableRecipe TunableRecipe::read(const std::filesystem::path& file) {
  return parse(read_text_file(file), file);
}

TunableRecipe TunableRecipe::parse(std::string_view text, const std::filesystem::path& file) {
  const std::string where = file.empty() ? "recipe" : file.string();
  TunableRecipe recipe;
  recipe.text_ = text;
  recipe.documents_ = std::make_unique<Documents>(Documents{file, parse_yaml(text, where)});
  for (YamlNode& root : recipe.documents_->roots) {
    for_ranges(root, "", [&](const std::string& path, YamlNode& node) {
      recipe.ranges_.push_back(RangeReader(where, path, node).read());
    });
  }
  if (recipe.ranges_.empty()) {
    throw usage_error(
        "{}: no range to search; mark a number as one: lambda: {{search: [0.3, 1.5]}}", where);
  }
  std::vector<double> starts;
  for (const SearchRange& r : recipe.ranges_) starts.push_back(r.start);
  (void)recipe.with(starts);
  return recipe;
}

Recipe TunableRecipe::with(std::span<const double> values) const {
  std::vector<YamlNode> roots = documents_->roots;
  size_t at = 0;
  for (YamlNode& root : roots) {
    for_ranges(root, "", [&](const std::string&, YamlNode& node) {
      YamlNode number{.kind = Kind::kScalar, .line = node.line};
      number.scalar = fmt::format("{}", values[at++]);
      number.plain = true;
      node = number;
    });
  }
  Recipe recipe = recipe_of(std::move(roots), documents_->file);
  recipe.text = to_yaml(recipe, false);
  return recipe;
}

}  // namespace lewis
