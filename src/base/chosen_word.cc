#include "base/chosen_word.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "base/suggest.h"

namespace lewis {

size_t chosen_word(std::string_view option, std::string_view given,
                   std::span<const std::string_view> words) {
  const auto found = std::ranges::find(words, given);
  if (found != words.end()) return static_cast<size_t>(found - words.begin());
  throw usage_error("{} {}: expected {} or {}; the nearest is '{}'", option, given,
                    fmt::join(words.first(words.size() - 1), ", "), words.back(),
                    nearest_name(given, words));
}

}  // namespace lewis
