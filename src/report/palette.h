// Colours that people who are colour-blind can tell apart, and that print.
#pragma once

#include <string>

namespace lewis {

struct Color {
  int red = 0, green = 0, blue = 0;
  std::string hex() const;  // "#21918c"
  // Whether black text is easier to read on it than white (WCAG's contrast).
  bool wants_dark_text() const;
};

// Perceptually uniform, from dark violet over green to yellow (viridis: van der Walt and Smith,
// 2015). `share` is clipped to [0, 1].
Color sequential(double share);
// From blue (0) over a light grey (0.5) to orange (1).
Color diverging(double share);

}  // namespace lewis
