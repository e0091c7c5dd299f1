// The task vectors of a merge as a whole: sums over all tensors, as numbers and as tables of texts.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "merge/diagnostics.h"

namespace lewis {

// Sums over all tensors, per model and per pair of models.
struct DiagnosticTotals {
  std::vector<TaskVectorSums> models;
  std::vector<PairSums> pairs;
  int64_t entries = 0;  // of the tensors

  std::optional<double> changed_share(size_t model) const;
};
DiagnosticTotals totals_of(const MergeDiagnostics& diagnostics);
double cosine_of(const DiagnosticTotals& totals, size_t a, size_t b);

// "math and code"
std::string pair_title(const std::vector<std::string>& titles, size_t a, size_t b);

// The totals as texts, "74.5 %": of the task vectors (size, changed, kept, dropped, in the merge),
// and of their pairs (sign conflict, after trimming, cosine). Cells that
// only trimming decides are empty where nothing is trimmed.
struct TotalsTable {
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows;
};
TotalsTable task_vector_table(const MergeDiagnostics& diagnostics,
                              const std::vector<std::string>& titles);
TotalsTable pair_table(const MergeDiagnostics& diagnostics, const std::vector<std::string>& titles);

}  // namespace lewis
