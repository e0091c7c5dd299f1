// The parts of the page that are no drawings.
#pragma once

#include <string>

#include "report/report.h"

namespace lewis {

// All of its style; the page's policy allows exactly this text.
std::string page_style();

// A comparison as a sentence: "worse than uniform by 0.0110 [0.0098, 0.0123]", the
// last the 95 % interval.
std::string comparison_text(const ScorePanel& panel, const ScoreComparison& comparison);

}  // namespace lewis
