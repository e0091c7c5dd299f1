// The parameters of merge methods: one table of all that a recipe may write under `parameters:`. A
// method says in its own file which of them it reads, which it needs and what the others default
// to.
#pragma once

#include <array>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace lewis {

enum class ParameterScope {
  kModel,  // may differ between models: written under a model or, for all models, under the recipe
  kWhole,  // of the whole merge: refused under a model
};

enum class ParameterKind {
  kNumber,
  kFlag,   // true or false (or a number: 0 is false)
  kWhole,  // a whole number
};

struct ParameterRow {
  std::string_view name;
  ParameterScope scope = ParameterScope::kWhole;
  ParameterKind kind = ParameterKind::kNumber;
  std::string_view meaning;  // one line for docs/methods.md
  // The values that the parser accepts, both bounds included.
  double least = -std::numeric_limits<double>::infinity();
  double most = std::numeric_limits<double>::infinity();
};

// Sorted by name.
inline constexpr auto kParameterTable = std::to_array<ParameterRow>({
    {"alpha", ParameterScope::kWhole, ParameterKind::kNumber,
     "largest ratio of shared to own entries that rescales a model's own entries"},
    {"beta_max", ParameterScope::kWhole, ParameterKind::kNumber,
     "exponent of the coherence of residuals that do not agree, and of tensors outside of "
     "attention and feed-forward layers",
     0},
    {"beta_min", ParameterScope::kWhole, ParameterKind::kNumber,
     "exponent of the coherence of residuals that agree wholly", 0},
    {"density", ParameterScope::kModel, ParameterKind::kNumber,
     "share of the entries of a model's task vector that is kept", 0, 1},
    {"double_sums", ParameterScope::kWhole, ParameterKind::kFlag,
     "linear: sums are taken in double precision, in the order of the models' names, so that their "
     "order in the recipe changes no bit"},
    {"eps", ParameterScope::kWhole, ParameterKind::kNumber,
     "lengths below it count as zero; it is added to the length that a vector is divided by", 0},
    {"epsilon", ParameterScope::kModel, ParameterKind::kNumber,
     "della: half the range of the probabilities with which entries are kept; ram: entries of a "
     "task vector up to this size count as unchanged"},
    {"filter_wise", ParameterScope::kWhole, ParameterKind::kFlag,
     "each row of a tensor is merged as a vector of its own"},
    {"gamma", ParameterScope::kModel, ParameterKind::kNumber,
     "share of the entries of a model's task vector that is dropped because they are the largest",
     0, 1},
    {"head_ratio", ParameterScope::kWhole, ParameterKind::kNumber,
     "length of the mean of the largest singular directions, as a share of that of the rest", 0},
    {"int8_mask", ParameterScope::kWhole, ParameterKind::kFlag,
     "accepted for mergekit's sake; it changes nothing"},
    {"lambda", ParameterScope::kWhole, ParameterKind::kNumber,
     "factor of the merged task vector before the base is added"},
    {"max_iter", ParameterScope::kWhole, ParameterKind::kWhole, "largest number of iterations", 0,
     1e6},
    {"normalize", ParameterScope::kWhole, ParameterKind::kFlag,
     "the sum is divided by the sum of the weights"},
    {"normalize_weights", ParameterScope::kWhole, ParameterKind::kFlag,
     "the weights are divided by their sum"},
    {"nuslerp_flatten", ParameterScope::kWhole, ParameterKind::kFlag,
     "a tensor is one vector; false: each row is one, or each column"},
    {"nuslerp_row_wise", ParameterScope::kWhole, ParameterKind::kFlag,
     "without nuslerp_flatten: each column is a vector, not each row"},
    {"r", ParameterScope::kWhole, ParameterKind::kNumber,
     "how much a model's own entries grow with its share of shared ones"},
    {"rescale", ParameterScope::kWhole, ParameterKind::kFlag,
     "a sparsified task vector gets the L1 norm that it had before"},
    {"ridge", ParameterScope::kWhole, ParameterKind::kNumber,
     "how strongly the solution is held to the sum of the task vectors, as a share of the mean of "
     "the equations' diagonal",
     0},
    {"scale", ParameterScope::kModel, ParameterKind::kNumber, "factor of the tensor"},
    {"select_topk", ParameterScope::kWhole, ParameterKind::kNumber,
     "share of the entries that is selected, those that differ most between the models"},
    {"t", ParameterScope::kWhole, ParameterKind::kNumber,
     "how far the result is from the base (0) to the model (1)"},
    {"tol", ParameterScope::kWhole, ParameterKind::kNumber,
     "iterations end with a step shorter than this", 0},
    {"weight", ParameterScope::kModel, ParameterKind::kNumber,
     "weight of a model in the sum or the mean"},
});

// The row of a name; null when the table has none.
const ParameterRow* find_parameter(std::string_view name);
// All names, in the order of the table.
std::vector<std::string_view> parameter_names();
// The values that a row accepts, for messages and docs: "from 0 to 1", "at least 0", "true or
// false".
std::string range_text(const ParameterRow& row);

// A row of the table, by a name that is checked when the program is compiled:
// `ParameterId id = "weight"`.
class ParameterId {
 public:
  consteval ParameterId(const char* name) : index_(index_of(name)) {}  // NOLINT: by intent implicit
  constexpr size_t index() const { return index_; }
  constexpr const ParameterRow& row() const { return kParameterTable[index_]; }
  constexpr std::string_view name() const { return row().name; }

 private:
  static consteval size_t index_of(std::string_view name) {
    for (size_t i = 0; i < kParameterTable.size(); ++i) {
      if (kParameterTable[i].name == name) return i;
    }
    throw "kParameterTable has no row of this name";  // stops the compiler
  }

  size_t index_;
};

}  // namespace lewis
