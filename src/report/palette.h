// Colours that colour-blind people can distinguish and that print well.
#pragma once

#include <string>

namespace lewis {

struct Color {
  int red = 0, green = 0, blue = 0;
  std::string hex() const;  // "#21918c"
  // Whether black text is easier to read on it than white (WCAG's contrast).
  bool wants_dark_text() const;
};

// A perceptually uniform scale from dark violet over green to yellow (viridis: van der Walt and
// Smith, 2015). `share` is clipped to [0, 1].
Color sequential(double share);
// A diverging scale from blue (0) over a light grey (0.5) to orange (1).
Color diverging(double share);

}  // namespace lewis
