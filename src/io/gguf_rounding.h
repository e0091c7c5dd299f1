// The size of the rounding in GGUF's blocks, by the numbers that they stand for.
#pragma once

#include <span>

#include "io/gguf_types.h"

namespace lewis {

// The expected sum of squares of (number before rounding - number), for whole blocks of a type as
// `values`. A number that is rounded to a grid is off by step^2 / 12 in the mean; the step of a
// group of numbers follows from their largest magnitude, or their range, and the levels of the
// type, since quantisers let the extreme number have the extreme level. 0 for plain types.
double rounding_energy(GgufType type, std::span<const float> values);

}  // namespace lewis
