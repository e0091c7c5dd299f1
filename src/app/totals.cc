#include "app/totals.h"

#include <fmt/format.h>

#include <cmath>

namespace lewis {

std::string pair_title(const std::vector<std::string>& titles, size_t a, size_t b) {
  return titles[a] + " and " + titles[b];
}

DiagnosticTotals totals_of(const MergeDiagnostics& d) {
  DiagnosticTotals all;
  all.models.resize(d.models.size());
  all.pairs.resize(d.models.size() * (d.models.size() - 1) / 2);
  for (const TensorDiagnostics& t : d.tensors) {
    all.entries += element_count(t.shape);
    for (size_t m = 0; m < all.models.size(); ++m) all.models[m] += t.models[m];
    for (size_t p = 0; p < all.pairs.size(); ++p) all.pairs[p] += t.pairs[p];
  }
  return all;
}

std::optional<double> DiagnosticTotals::changed_share(size_t model) const {
  if (entries == 0) return std::nullopt;
  return static_cast<double>(models[model].changed) / static_cast<double>(entries);
}

double cosine_of(const DiagnosticTotals& totals, size_t a, size_t b) {
  const double norms = std::sqrt(totals.models[a].squares * totals.models[b].squares);
  return norms > 0 ? totals.pairs[pair_index(a, b, totals.models.size())].dot / norms : 0;
}

namespace {

std::string percent(std::optional<double> share) {
  return share ? fmt::format("{:.1f} %", 100 * *share) : "";
}

}  // namespace

TotalsTable task_vector_table(const MergeDiagnostics& d, const std::vector<std::string>& titles) {
  const DiagnosticTotals totals = totals_of(d);
  TotalsTable table{{"expert", "size", "changed", "kept", "dropped", "in the merge"}, {}};
  for (size_t m = 0; m < titles.size(); ++m) {
    const TaskVectorSums& s = totals.models[m];
    const auto size = s.relative_size();
    table.rows.push_back({titles[m], size ? fmt::format("{:.4f}", *size) : "",
                          percent(totals.changed_share(m)), d.trims ? percent(s.kept_share()) : "",
                          d.trims ? percent(s.energy_dropped()) : "", percent(s.carried_share())});
  }
  return table;
}

TotalsTable pair_table(const MergeDiagnostics& d, const std::vector<std::string>& titles) {
  const DiagnosticTotals totals = totals_of(d);
  TotalsTable table{{"pair", "sign conflict", "after trimming", "cosine"}, {}};
  for (size_t a = 0; a < titles.size(); ++a) {
    for (size_t b = a + 1; b < titles.size(); ++b) {
      const PairSums& p = totals.pairs[pair_index(a, b, titles.size())];
      table.rows.push_back({pair_title(titles, a, b), percent(p.conflict()),
                            d.trims ? percent(p.conflict_kept()) : "",
                            fmt::format("{:.3f}", cosine_of(totals, a, b))});
    }
  }
  return table;
}

}  // namespace lewis
