// The choices of a recipe, most of its section `lewis:`, with the names that recipes use.
// plan/tables.h, refine/ and merge/ implement them.
#pragma once

#include "base/enum_names.h"

namespace lewis {

// lewis.importance: what says how important a linear layer is (plan/importance/).
enum class Importance { kNormShift, kTaskVector, kActivationShift };
template <>
inline constexpr auto kEnumNames<Importance> =
    std::to_array<EnumName<Importance>>({{Importance::kNormShift, "norm_shift"},
                                         {Importance::kTaskVector, "task_vector"},
                                         {Importance::kActivationShift, "activation_shift"}});

// lewis.allocation: how importances become densities (plan/allocation/).
enum class Allocation { kMinMax, kBudget, kThreshold, kNone };
template <>
inline constexpr auto kEnumNames<Allocation> =
    std::to_array<EnumName<Allocation>>({{Allocation::kMinMax, "min_max"},
                                         {Allocation::kBudget, "budget"},
                                         {Allocation::kThreshold, "threshold"},
                                         {Allocation::kNone, "none"}});

// lewis.normalise: what importances become before they are allocated (plan/normalise.h).
enum class Normalise { kMinMax, kRank, kLog };
template <>
inline constexpr auto kEnumNames<Normalise> = std::to_array<EnumName<Normalise>>(
    {{Normalise::kMinMax, "min_max"}, {Normalise::kRank, "rank"}, {Normalise::kLog, "log"}});

// lewis.trim: what ranks the entries of a task vector within a tensor.
enum class Trim {
  kMagnitude,   // |d|
  kActivation,  // |d| sqrt(s) (plan/trim.cc)
};
template <>
inline constexpr auto kEnumNames<Trim> = std::to_array<EnumName<Trim>>(
    {{Trim::kMagnitude, "magnitude"}, {Trim::kActivation, "activation"}});

// lewis.coefficient: what the weight of a tensor is multiplied by (plan/coefficient/).
enum class Coefficient { kNone, kLines, kImportance };
template <>
inline constexpr auto kEnumNames<Coefficient> =
    std::to_array<EnumName<Coefficient>>({{Coefficient::kNone, "none"},
                                          {Coefficient::kLines, "lines"},
                                          {Coefficient::kImportance, "importance"}});

// lewis.refine.method: how a linear layer's weights are solved for (docs/refine.md).
enum class RefineMethod { kRegression, kRegmean, kRegmeanPp };
template <>
inline constexpr auto kEnumNames<RefineMethod> =
    std::to_array<EnumName<RefineMethod>>({{RefineMethod::kRegression, "regression"},
                                           {RefineMethod::kRegmean, "regmean"},
                                           {RefineMethod::kRegmeanPp, "regmean_pp"}});

// lewis.refine.weighting: how much the text of each expert counts in a layer's least squares.
enum class RefineWeighting {
  kTokens,  // every expert the same: the weights of its tokens add up to one
  kNorm,    // every expert's Gram matrix has the same Frobenius norm
};
template <>
inline constexpr auto kEnumNames<RefineWeighting> = std::to_array<EnumName<RefineWeighting>>(
    {{RefineWeighting::kTokens, "tokens"}, {RefineWeighting::kNorm, "norm"}});

// lewis.refine.prior: the merge that refinement begins with.
enum class RefinePrior {
  kGuided,  // with the densities of calibration
  kPlain,   // as the recipe says it
};
template <>
inline constexpr auto kEnumNames<RefinePrior> = std::to_array<EnumName<RefinePrior>>(
    {{RefinePrior::kGuided, "guided"}, {RefinePrior::kPlain, "plain"}});

// missing: what becomes of a tensor that the base has and another model lacks
// (merge/inputs/missing.cc).
enum class Missing {
  kRefuse,  // the merge is refused
  kBase,    // the result has the base's
  kZero,    // the model that lacks it has a task vector of zeros there
};
template <>
inline constexpr auto kEnumNames<Missing> = std::to_array<EnumName<Missing>>(
    {{Missing::kRefuse, "refuse"}, {Missing::kBase, "base"}, {Missing::kZero, "zero"}});

// experts: how the result stores routed experts.
enum class ExpertTensors {
  kSplit,  // each linear layer of an expert is a tensor
  kFused,  // those of all experts are one
};
template <>
inline constexpr auto kEnumNames<ExpertTensors> = std::to_array<EnumName<ExpertTensors>>(
    {{ExpertTensors::kSplit, "split"}, {ExpertTensors::kFused, "fused"}});

// expert_order: whether experts that stand in another order than in the base are told.
enum class ExpertOrder {
  kAlign,  // they are merged with those that they correspond to
  kKeep,   // expert 3 of one model is merged with expert 3 of another
};
template <>
inline constexpr auto kEnumNames<ExpertOrder> = std::to_array<EnumName<ExpertOrder>>(
    {{ExpertOrder::kAlign, "align"}, {ExpertOrder::kKeep, "keep"}});

}  // namespace lewis
