// "Did you mean": the nearest of the known names, for error messages.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace lewis {

// The fewest single bytes to insert, delete or replace, and neighbours to swap, that turn one text
// into the other; what was swapped is not changed again (optimal string alignment).
size_t edit_distance(std::string_view a, std::string_view b);

// The known name with the smallest edit distance (the first of equals); empty when `known` is.
std::string_view nearest_name(std::string_view name, std::span<const std::string_view> known);

// "'claen' is not known; did you mean 'clean'? (known: clean, reference)"
std::string unknown_name(std::string_view name, std::span<const std::string_view> known);

}  // namespace lewis
