// The tables that lewis eval prints.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/terminal.h"
#include "eval/results/results.h"

namespace lewis {

// The table of all models and metrics: one line of scores per model with its differences below it,
// where that fits the terminal's width; otherwise one block per metric with one line per model.
// Below it stand the meaning of the marks, the differences that the items could have shown, and
// warnings.
TerminalText results_text(const std::vector<ModelResults>& models, std::optional<size_t> baseline,
                          const Terminal& terminal);

}  // namespace lewis
