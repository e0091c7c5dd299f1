// What is known of a merge, layer by projection: the same numbers for the terminal and the report.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "cli/terminal.h"
#include "merge/diagnostics.h"
#include "plan/plan.h"
#include "report/report.h"

namespace lewis {

// The shortest ends of the paths that tell them apart ("math", or "a/math" and "b/math").
std::vector<std::string> short_names(const std::vector<std::filesystem::path>& paths);

// What LEWIS found for one model, or what a recipe says: by module. The mean of the experts of a
// layer where they have one each.
struct ModuleValues {
  std::string title;
  LayerValues values;
};
HeatMaps importance_measure(const std::vector<ModuleValues>& models);
HeatMaps density_measure(const std::vector<ModuleValues>& models);
HeatMaps activation_error_measure(const std::vector<ModuleValues>& models);

// Size, energy dropped, share carried over and sign conflict of the linear layers. `titles`: of
// the models, as MergeDiagnostics::models.
std::vector<HeatMaps> diagnostic_measures(const MergeDiagnostics& diagnostics,
                                          const std::vector<std::string>& titles);

// One line a model, then one a pair: all tensors together.
struct DiagnosticTotals {
  std::vector<TaskVectorSums> models;
  std::vector<PairSums> pairs;
  int64_t entries = 0;  // of the tensors

  std::optional<double> changed_share(size_t model) const;
};
DiagnosticTotals totals_of(const MergeDiagnostics& diagnostics);
double cosine_of(const DiagnosticTotals& totals, size_t a, size_t b);

// The totals as texts, "74.5 %": of the task vectors (size, changed, kept, dropped, in the merge),
// and of their pairs (sign conflict, after trimming, cosine). What only trimming decides is empty
// where nothing is trimmed.
struct TotalsTable {
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows;
};
TotalsTable task_vector_table(const MergeDiagnostics& diagnostics,
                              const std::vector<std::string>& titles);
TotalsTable pair_table(const MergeDiagnostics& diagnostics, const std::vector<std::string>& titles);

// {title: {module: value}}.
Json to_json(const std::vector<ModuleValues>& models);
// The same values under the shortest titles that tell the models apart.
std::vector<ModuleValues> titled(std::vector<ModuleValues> models);

// Per tensor and in total, every number with all its digits.
Json to_json(const MergeDiagnostics& diagnostics);

// Measures as text: their maps one under the other, or side by side where the terminal's width has
// room; maps that are wider are cut into groups of projections. Without colour the numbers alone.
std::string terminal_maps(const std::vector<HeatMaps>& measures, const Terminal& terminal);

}  // namespace lewis
