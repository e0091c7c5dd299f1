#include "recipe/tunable.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "base/text_file.h"
#include "recipe/nodes.h"
#include "yaml/reader.h"

namespace lewis {
namespace {

enum class SearchScale { kLinear, kLog };

}  // namespace

template <>
inline constexpr auto kEnumNames<SearchScale> = std::to_array<EnumName<SearchScale>>(
    {{SearchScale::kLinear, "linear"}, {SearchScale::kLog, "log"}});

namespace {

using Kind = YamlNode::Kind;

// Calls f(path, node) for each range below the node, in the order of the text.
void for_ranges(YamlNode& node, const std::string& path,
                const std::function<void(const std::string&, YamlNode&)>& f) {
  if (is_open(node)) return f(path, node);
  for (size_t i = 0; i < node.items.size(); ++i)
    for_ranges(node.items[i], fmt::format("{}[{}]", path, i), f);
  for (auto& [key, value] : node.entries)
    for_ranges(value, path.empty() ? key.scalar : path + "." + key.scalar, f);
}

// Reads one range; `path` is where it is in the recipe.
SearchRange range_of(const YamlReader& yaml, const std::string& path, const YamlNode& node) {
  const auto fail = [&](const std::string& message) {
    yaml.fail(node.line, fmt::format("{}: {}", path, message));
  };
  const auto number = [&](const YamlNode& n) {
    return yaml.number(n, fmt::format("{}: search and start: a bound", path));
  };
  yaml.check_keys(node, {"search", "scale", "start"}, path);
  const YamlNode& bounds = *node.find("search");
  if (bounds.items.size() != 2) fail("search must be [LOW, HIGH]");
  SearchRange range{.path = path, .low = number(bounds.items[0]), .high = number(bounds.items[1])};
  if (!(range.low < range.high))
    fail(fmt::format("search [{}, {}] holds nothing to choose", range.low, range.high));
  if (const YamlNode* scale = YamlReader::given(node, "scale"))
    range.log = yaml.choice<SearchScale>(*scale, path + ": scale") == SearchScale::kLog;
  if (range.log && range.low <= 0) fail("scale: log needs bounds above 0");
  range.start = range.log ? std::sqrt(range.low * range.high) : (range.low + range.high) / 2;
  if (const YamlNode* start = YamlReader::given(node, "start")) range.start = number(*start);
  if (range.start < range.low || range.start > range.high)
    fail(fmt::format("start {} is outside search [{}, {}]", range.start, range.low, range.high));
  return range;
}

// Reads options of which one is to be chosen.
SearchRange options_of(const YamlReader& yaml, const std::string& path, const YamlNode& node) {
  const auto fail = [&](const std::string& message) {
    yaml.fail(node.line, fmt::format("{}: {}", path, message));
  };
  yaml.check_keys(node, {"choose", "start"}, path);
  SearchRange range{.path = path, .low = 0, .start = 0};
  for (const YamlNode& option : node.find("choose")->items) {
    if (option.kind != Kind::kScalar) fail("choose must be a list of numbers or words");
    if (std::ranges::count(range.options, option.scalar))
      fail(fmt::format("choose names {} twice", option.scalar));
    range.options.push_back(option.scalar);
  }
  if (range.options.size() < 2) fail("choose needs two options or more");
  range.high = static_cast<double>(range.options.size() - 1);
  const YamlNode* start = YamlReader::given(node, "start");
  if (!start) return range;
  const auto at = std::ranges::find(range.options, start->scalar);
  if (at == range.options.end()) fail(fmt::format("start {} is no option", start->scalar));
  range.start = static_cast<double>(at - range.options.begin());
  return range;
}

// Whether a map has a list under this key.
bool has_list(const YamlNode& node, std::string_view key) {
  const YamlNode* list = node.kind == Kind::kMap ? node.find(key) : nullptr;
  return list && list->kind == Kind::kList;
}

}  // namespace

bool is_open(const YamlNode& node) { return has_list(node, "search") || has_list(node, "choose"); }

std::string SearchRange::text_of(double value) const {
  return options.empty() ? fmt::format("{}", value) : options.at(static_cast<size_t>(value));
}

struct TunableRecipe::Documents {
  std::filesystem::path file;
  std::vector<YamlNode> roots;
  UnknownKeys unknown;
};

TunableRecipe::TunableRecipe() = default;
TunableRecipe::~TunableRecipe() = default;
TunableRecipe::TunableRecipe(TunableRecipe&&) noexcept = default;

TunableRecipe TunableRecipe::read(const std::filesystem::path& file, UnknownKeys unknown) {
  return parse(read_text_file(file), file, unknown);
}

TunableRecipe TunableRecipe::parse(std::string_view text, const std::filesystem::path& file,
                                   UnknownKeys unknown) {
  const std::string where = file.empty() ? "recipe" : file.string();
  const YamlReader yaml(where);
  TunableRecipe recipe;
  recipe.text_ = text;
  recipe.documents_ =
      std::make_unique<Documents>(Documents{file, parse_yaml(text, where), unknown});
  for (YamlNode& root : recipe.documents_->roots) {
    for_ranges(root, "", [&](const std::string& path, YamlNode& node) {
      recipe.ranges_.push_back(has_list(node, "search") ? range_of(yaml, path, node)
                                                        : options_of(yaml, path, node));
    });
  }
  if (recipe.ranges_.empty()) {
    throw usage_error(
        "{}: no range to search; mark a number as one: lambda: {{search: [0.3, 1.5]}}, anything "
        "else "
        "by its options: prior: {{choose: [guided, plain]}}",
        where);
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
      const SearchRange& range = ranges_[at];
      const double value = values[at++];
      YamlNode found{.kind = Kind::kScalar, .line = node.line};
      found.scalar = range.text_of(value);
      found.plain =
          range.options.empty() || node.find("choose")->items[static_cast<size_t>(value)].plain;
      node = found;
    });
  }
  Recipe recipe = recipe_of(std::move(roots), documents_->file, {}, documents_->unknown);
  recipe.text = to_yaml(recipe, false);
  return recipe;
}

}  // namespace lewis
