// How far the layers of a merge are from those of its experts: where it breaks.
#pragma once

#include <string>
#include <vector>

#include "app/guidance.h"
#include "app/measures.h"

namespace lewis {

// For each calibration entry of the recipe that has text: || Y_merged - Y_expert ||_F /
// || Y_expert ||_F of every linear layer, by module, titled with the expert's name as the recipe
// writes it. The text consists of as many items as the entry calibrates on: those that come next in
// the order of choice. Both models run it from the start, so it holds errors of earlier layers.
// Results are kept in the cache. Throws Error(kUsage): no entry has text, a merge that asks for
// refinement and is not written; Error(kInput): no item is left, other layers or tokenizers.
std::vector<ModuleValues> activation_errors(const Recipe& recipe, const RecipeModel& merged,
                                            const GuidanceOptions& options, Threads& threads,
                                            const ProgressFn& progress, const NoteFn& note = {});

}  // namespace lewis
