// The parts of the page other than drawings.
#pragma once

#include <string>

#include "report/report.h"

namespace lewis {

// The style sheet; the page's Content-Security-Policy allows exactly this text.
std::string page_style();

// A comparison as a sentence: "worse than uniform by 0.0110 [0.0098, 0.0123]". The brackets hold
// the 95 % interval.
std::string comparison_text(const ScorePanel& panel, const ScoreComparison& comparison);

}  // namespace lewis
