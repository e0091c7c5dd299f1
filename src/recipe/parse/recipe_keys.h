// Inside recipe/: what becomes of a recipe's unknown keys.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "yaml/reader.h"

namespace lewis {

// Reads a part of a recipe. An unknown key is refused, or it becomes a note if mergekit ignores it
// and the caller wants that (UnknownKeys::kNoted).
class RecipeKeys : protected YamlReader {
 public:
  using Notes = std::shared_ptr<std::vector<std::string>>;

  // `ignored`: gets a line for each unknown key that mergekit ignores; null: those are refused.
  explicit RecipeKeys(std::string where, Notes ignored = nullptr)
      : YamlReader(std::move(where)), ignored_(std::move(ignored)) {}

 protected:
  // As YamlReader's, but a key that is known at another place is told where that is.
  void check_keys(const YamlNode& map, std::span<const std::string_view> known,
                  std::string_view what) const;
  void check_keys(const YamlNode& map, std::initializer_list<std::string_view> known,
                  std::string_view what) const {
    check_keys(map, std::span(known.begin(), known.size()), what);
  }
  // Notes "FILE:LINE: MESSAGE and is ignored, as by mergekit"; only where passes_over().
  void pass_over(int line, std::string_view message) const;
  bool passes_over() const { return ignored_ != nullptr; }
  const Notes& ignored() const { return ignored_; }

 private:
  Notes ignored_;
};

}  // namespace lewis
