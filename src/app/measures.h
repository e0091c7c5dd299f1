// Numbers about a merge, layer by projection. The terminal and the report show the same numbers.
#pragma once

#include <lewis/lewis.h>

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "merge/diagnostics.h"
#include "plan/plan.h"
#include "report/report.h"

namespace lewis {

// The shortest ends of the paths that tell them apart ("math", or "a/math" and "b/math").
std::vector<std::string> short_names(const std::vector<std::filesystem::path>& paths);

// Maps of what LEWIS found for the models, or of what a recipe says. Where a layer has experts, a
// cell is their mean.
HeatMaps importance_measure(const std::vector<ModuleValues>& models);
HeatMaps density_measure(const std::vector<ModuleValues>& models);
HeatMaps activation_error_measure(const std::vector<ModuleValues>& models);

// Size, energy dropped, share carried over and sign conflict of the linear layers. `titles`: of
// the models, as MergeDiagnostics::models.
std::vector<HeatMaps> diagnostic_measures(const MergeDiagnostics& diagnostics,
                                          const std::vector<std::string>& titles);

// The same values under the shortest titles that tell the models apart.
std::vector<ModuleValues> titled(std::vector<ModuleValues> models);

}  // namespace lewis
