#include "merge/modules.h"

#include <algorithm>
#include <array>
#include <utility>

namespace lewis {
namespace {

// {module of a recipe, part of a tensor's name}
constexpr std::array kAliases = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"text_decoder", "language_model"},
    {"text_decoder", "text_model"},
    {"vision_tower", "visual"},
    {"vision_tower", "vision_model"},
    {"visual", "vision_tower"},
});

bool stands_for(std::string_view module, std::string_view part) {
  return module == part || std::ranges::find(kAliases, std::pair(module, part)) != kAliases.end();
}

bool is_number(std::string_view part) {
  return !part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos;
}

std::optional<size_t> find_module(std::span<const std::string> modules, std::string_view part) {
  for (size_t m = 0; m < modules.size(); ++m) {
    if (stands_for(modules[m], part)) return m;
  }
  return std::nullopt;
}

}  // namespace

std::optional<size_t> module_of(std::string_view tensor, std::span<const std::string> modules) {
  for (std::string_view rest = tensor; !rest.empty();) {
    const size_t dot = std::min(rest.find('.'), rest.size());
    const std::string_view part = rest.substr(0, dot);
    if (is_number(part)) break;
    if (const auto found = find_module(modules, part)) return found;
    rest.remove_prefix(std::min(dot + 1, rest.size()));
  }
  const auto fallback = find_module(modules, "default");
  return fallback ? fallback : find_module(modules, "text_decoder");
}

}  // namespace lewis
