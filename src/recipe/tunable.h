// A recipe some of whose values are left open: numbers as ranges, `lambda: {search: [0.3, 1.5]}`,
// anything else by its options, `prior: {choose: [guided, plain]}`. `lewis tune` finds them; every
// other reader of recipes refuses them.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "recipe/recipe.h"

namespace lewis {

// {search: [LOW, HIGH]}, with `start: X` (default: the middle) and `scale: log` where equal ratios
// matter and not equal steps; or {choose: [A, B, ...]}, with `start: X` (default: the first), whose
// numbers are places among the options.
struct SearchRange {
  std::string path;  // "parameters.lambda", "models[0].parameters.weight", "lewis.gamma"
  double low = 0, high = 1, start = 0.5;
  bool log = false;
  std::vector<std::string> options{};  // as they are written; empty: a range of numbers

  // A value as the recipe has it: the number, or the option in that place.
  std::string text_of(double value) const;
};

class TunableRecipe {
 public:
  // Throws Error(kUsage) "FILE:LINE: ..." for YAML that is none, a range that is not one, no range
  // at all, and what parse_recipe refuses with the ranges' starts in their places.
  // `unknown`: see parse_recipe.
  static TunableRecipe read(const std::filesystem::path& file,
                            UnknownKeys unknown = UnknownKeys::kRefused);
  static TunableRecipe parse(std::string_view text, const std::filesystem::path& file,
                             UnknownKeys unknown = UnknownKeys::kRefused);
  ~TunableRecipe();
  TunableRecipe(TunableRecipe&&) noexcept;

  const std::vector<SearchRange>& ranges() const { return ranges_; }
  const std::string& text() const { return text_; }
  // The recipe with these values for the ranges(). Throws Error(kUsage) as parse_recipe does where
  // they do not fit together.
  Recipe with(std::span<const double> values) const;

 private:
  struct Documents;
  TunableRecipe();
  std::unique_ptr<Documents> documents_;
  std::vector<SearchRange> ranges_;
  std::string text_;
};

}  // namespace lewis
