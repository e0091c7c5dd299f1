// The tables of importances and allocations: one line a name, one file each.
#pragma once

#include <span>
#include <string_view>

#include "plan/plan.h"

namespace lewis {

struct ImportanceRow {
  std::string_view name;
  // Fills plan.importance (and what it wants to show: base_norm, expert_norm).
  void (*compute)(const ImportanceInput& input, ModelPlan& plan);
};
struct AllocationRow {
  std::string_view name;
  LayerValues (*allocate)(const LayerValues& importance, double gamma, double epsilon);
};

std::span<const ImportanceRow> importance_table();
std::span<const AllocationRow> allocation_table();

// importance/norm_shift.cc
void norm_shift(const ImportanceInput& input, ModelPlan& plan);

}  // namespace lewis
