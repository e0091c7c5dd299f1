// Counts the magnitudes of a chunk against a bracket: the inner loop of every exact threshold.
#pragma once

#include <cstddef>
#include <cstdint>

#include "merge/selection/top_k.h"

namespace lewis {

// A threshold is expected in [low, high].
struct Bracket {
  uint32_t low = 0, high = 0x7fffffffu;
};

// at_low: 0 where low is high.
struct BracketCount {
  uint32_t above = 0, at_high = 0, at_low = 0, inside = 0;
};

// The n magnitudes above `high`, at it, at `low` and between them; the last are written to
// `between` in their order, which must have room for n.
BracketCount count_in_bracket(const Differences& values, size_t n, const Bracket& bracket,
                              uint32_t* between);

// As count_in_bracket, for any processor.
BracketCount count_in_bracket_plainly(const Differences& values, size_t n, const Bracket& bracket,
                                      uint32_t* between);

}  // namespace lewis
