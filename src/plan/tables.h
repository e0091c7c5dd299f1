// The tables of importances, allocations and coefficients: one line and one file for each. Their
// names are in recipe/choices.h.
#pragma once

#include <span>
#include <string_view>

#include "plan/plan.h"

namespace lewis {

struct ImportanceRow {
  Importance choice;
  // Fills plan.importance (and what it wants to show: base_norm, expert_norm).
  void (*compute)(const ImportanceInput& input, ModelPlan& plan);
  bool output_changes = false;  // reads ImportanceInput::output_changes
};

// `plan` has everything but densities.
struct AllocationInput {
  const LewisSection& lewis;
  const ImportanceInput& models;
  const ModelPlan& plan;
};
struct AllocationRow {
  Allocation choice;
  LayerValues (*allocate)(const AllocationInput& input);
};

// Factors of the weights of tensors, by name; `plan` has importance and tensors.
struct CoefficientRow {
  Coefficient choice;
  LayerValues (*compute)(const CoefficientSettings& settings, const ImportanceInput& models,
                         const ModelPlan& plan);
};

std::span<const ImportanceRow> importance_table();
std::span<const AllocationRow> allocation_table();
std::span<const CoefficientRow> coefficient_table();

// importance/NAME.cc
void norm_shift(const ImportanceInput& input, ModelPlan& plan);
void task_vector_norm(const ImportanceInput& input, ModelPlan& plan);
void activation_shift(const ImportanceInput& input, ModelPlan& plan);

// allocation/NAME.cc
LayerValues allocate_budget(const AllocationInput& input);
LayerValues allocate_threshold(const AllocationInput& input);

// coefficient/NAME.cc
LayerValues coefficient_lines(const CoefficientSettings& settings, const ImportanceInput& models,
                              const ModelPlan& plan);
LayerValues coefficient_importance(const CoefficientSettings& settings,
                                   const ImportanceInput& models, const ModelPlan& plan);

// trim.cc: sqrt(s_j) of the expert's run for every covered tensor.
ColumnFactorMap activation_factors(const ImportanceInput& input);

// aim.cc: fills plan.base_magnitudes.
void keep_magnitudes(const ImportanceInput& input, ModelPlan& plan);

}  // namespace lewis
