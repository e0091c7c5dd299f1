#include "yaml/reader.h"

#include <algorithm>
#include <cmath>

#include "yaml/scalars.h"

namespace lewis {
namespace {

using Kind = YamlNode::Kind;

// yaml_disagreement of a node; empty for text in quotes.
std::string_view disagreement(const YamlNode& node) {
  return node.kind == Kind::kScalar && node.plain ? yaml_disagreement(node.scalar) : "";
}

}  // namespace

void YamlReader::fail(int line, std::string_view message) const {
  throw usage_error("{}:{}: {}", where_, line, message);
}

void YamlReader::check_keys(const YamlNode& map, std::span<const std::string_view> known,
                            std::string_view what) const {
  if (map.kind != Kind::kMap) fail(map.line, fmt::format("{} must be a map of keys", what));
  for (const auto& [key, _] : map.entries) {
    if (std::ranges::find(known, key.scalar) != known.end()) continue;
    fail(key.line, fmt::format("unknown key {} in {}; did you mean '{}'?", in_quotes(key.scalar),
                               what, nearest_name(key.scalar, known)));
  }
}

const YamlNode* YamlReader::given(const YamlNode& map, std::string_view key) {
  const YamlNode* node = map.find(key);
  return node && !node->is_null() ? node : nullptr;
}

std::optional<YamlNode> YamlReader::section(const YamlNode& map, std::string_view key) {
  const YamlNode* node = map.find(key);
  if (!node) return std::nullopt;
  if (!node->is_null()) return *node;
  return YamlNode{.kind = Kind::kMap, .line = node->line};
}

const YamlNode& YamlReader::need(const YamlNode& map, std::string_view key) const {
  const YamlNode* node = map.find(key);
  if (!node) fail(map.line, fmt::format("'{}' is missing", key));
  return *node;
}

std::string YamlReader::shown(const YamlNode& node) {
  return node.kind == Kind::kScalar ? in_quotes(node.scalar)
         : node.kind == Kind::kList ? "a list"
                                    : "a map";
}

std::string YamlReader::any_text(const YamlNode& node, std::string_view what) const {
  if (node.kind != Kind::kScalar) fail(node.line, fmt::format("'{}' must be a text", what));
  const std::string_view reason = disagreement(node);
  if (reason.empty()) return node.scalar;
  fail(node.line, fmt::format("'{}' must be a text: {} {}; write it in quotes: \"{}\"", what,
                              shown(node), reason, node.scalar));
}

std::string YamlReader::text(const YamlNode& node, std::string_view what) const {
  if (node.kind != Kind::kScalar || node.is_null() || node.scalar.empty())
    fail(node.line, fmt::format("'{}' must be a text", what));
  return any_text(node, what);
}

double YamlReader::number(const YamlNode& node, std::string_view what) const {
  if (const auto value = node.number(); value && std::isfinite(*value)) return *value;
  const std::string_view reason = disagreement(node);
  if (reason.empty())
    fail(node.line, fmt::format("{} must be a number, found {}", what, shown(node)));
  fail(node.line, fmt::format("{} must be a number: {} {}; write it in decimal, without leading "
                              "zeros or underscores",
                              what, shown(node), reason));
}

double YamlReader::share(const YamlNode& node, std::string_view what) const {
  const double value = number(node, what);
  if (value >= 0 && value <= 1) return value;
  fail(node.line, fmt::format("{} {} is outside [0, 1]", what, node.scalar));
}

uint64_t YamlReader::count(const YamlNode& node, std::string_view what, uint64_t least) const {
  constexpr double kMost = 1e15;
  const double value = number(node, what);
  if (value >= static_cast<double>(least) && value == std::floor(value) && value <= kMost)
    return static_cast<uint64_t>(value);
  fail(node.line,
       fmt::format("{} must be a whole number from {}, found {}", what, least, shown(node)));
}

bool YamlReader::flag(const YamlNode& node, std::string_view what) const {
  if (const auto value = node.boolean()) return *value;
  if (const auto value = node.number(); value && (*value == 0 || *value == 1)) return *value == 1;
  const std::string_view reason = disagreement(node);
  fail(node.line, fmt::format("{} must be true or false, found {}{}", what, shown(node),
                              reason.empty() ? "" : fmt::format(", which {}", reason)));
}

}  // namespace lewis
