// Diagnostics of a merge by its task vectors (model - base), computed from the weights alone: how
// large they are, how much of them trimming leaves, where they pull in opposite directions, and how
// much of each is in the result.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "merge/inputs.h"

namespace lewis {

// Sums over one task vector d, in a tensor or added up over several.
struct TaskVectorSums {
  int64_t changed = 0;      // entries that are not 0
  int64_t kept = 0;         // entries that trimming leaves; all where nothing is trimmed
  double squares = 0;       // sum of d^2
  double kept_squares = 0;  // sum of d^2 over the entries that trimming leaves
  double carried = 0;       // sum of (merged - base) * d, with merged as it is stored
  double base_squares = 0;  // sum of the squares of the base's values
  TaskVectorSums& operator+=(const TaskVectorSums& other);

  // || d || / || base ||; nullopt where the base is 0. Those below are nullopt where d is 0.
  std::optional<double> relative_size() const;
  std::optional<double> kept_share() const;      // kept / changed
  std::optional<double> energy_dropped() const;  // 1 - kept_squares / squares
  // carried / squares: the length of the merged difference along d, in lengths of d. At 1 the whole
  // task vector is in the merge, at 0 nothing of it; below 0 the merge moves away from the expert.
  std::optional<double> carried_share() const;
};

// Counts and sums over the entries of two task vectors.
struct PairSums {
  int64_t both = 0, opposite = 0;            // entries that both change; with opposite signs
  int64_t both_kept = 0, opposite_kept = 0;  // the same over the entries that trimming leaves
  double dot = 0;                            // sum of d_a * d_b
  PairSums& operator+=(const PairSums& other);

  // opposite / both; about 0.5 for unrelated task vectors. nullopt where they share no entry.
  std::optional<double> conflict() const;
  std::optional<double> conflict_kept() const;
};

struct TensorDiagnostics {
  std::string name;  // in the output
  Shape shape;
  std::vector<TaskVectorSums> models;  // as MergeDiagnostics::models
  std::vector<PairSums> pairs;         // (0, 1), (0, 2), ..., (1, 2), ...: pair_index
};

struct MergeDiagnostics {
  std::vector<std::string> models;  // the models with a task vector, as the recipe names them
  std::vector<TensorDiagnostics> tensors;  // the tensors that are merged, sorted by name
  bool trims = false;                      // whether a method trims task vectors
};

// The place of the pair (a, b), a < b, among the pairs of `count` models.
size_t pair_index(size_t a, size_t b, size_t count);

// Reads base and models once more and merges without writing. Sums are taken in double, in an order
// that does not depend on threads. Error(kUsage) where the recipe merges nothing into a base model;
// Error(kInput) for a value that is not finite.
// `finished`: the merged model, where its tensors are not what the method makes of the inputs
// (refinement); those that it has are read from it.
MergeDiagnostics diagnose(const MergeInputs& inputs, Threads& threads, const ProgressFn& progress,
                          const TensorSource* finished = nullptr);

}  // namespace lewis
