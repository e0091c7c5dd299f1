// What lewis eval prints.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/terminal.h"
#include "eval/results/results.h"

namespace lewis {

// The table of all models and metrics: one line of scores a model and its differences below it,
// where that fits the terminal's width; otherwise a block a metric with a line a model. Then what
// the marks mean, what differences the items could have shown, and what to beware of.
std::string results_text(const std::vector<ModelResults>& models, std::optional<size_t> baseline,
                         const Terminal& terminal);

}  // namespace lewis
