// A word that an option takes.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace lewis {

// The place of a word among those that an option takes, or Error(kUsage) with the nearest.
size_t chosen_word(std::string_view option, std::string_view given,
                   std::span<const std::string_view> words);

}  // namespace lewis
