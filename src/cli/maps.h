// Heat maps in the terminal.
#pragma once

#include <string>
#include <vector>

#include "cli/terminal.h"
#include "report/report.h"

namespace lewis {

// Measures as text: their maps one under the other, or side by side where the terminal's width has
// room; maps that are wider are cut into groups of projections. Without colour the numbers alone.
TerminalText terminal_maps(const std::vector<HeatMaps>& measures, const Terminal& terminal);

}  // namespace lewis
