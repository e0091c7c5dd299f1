// What refinement did, block by block, for the report.
#pragma once

#include <vector>

#include "refine/refine.h"
#include "report/report.h"

namespace lewis {

// The error of each block's output, as merged and as refined, one map per pass. Without layers
// where nothing was refined or nothing held out.
HeatMaps refinement_measure(const std::vector<RefineReport>& passes);
// Per pass a table of both errors, what the held-out text decided, and the time; where numbers were
// chosen, a table of those that are not the defaults.
std::vector<NumberTable> refinement_tables(const std::vector<RefineReport>& passes);

}  // namespace lewis
