// The names and the meaning of a task's numbers.
#pragma once

#include <string>

namespace lewis {

// One number that a task gives: "exact_match" found by the filter "strict-match", as
// lm-evaluation-harness names them.
struct MetricInfo {
  enum class Kind {
    kMean,     // the mean over items
    kShare,    // the same of items that are right (1) or wrong (0): shown in percent
    kExpMean,  // exp of the weighted mean: perplexity
  };
  std::string name, filter = "none";
  Kind kind = Kind::kMean;
  bool higher_is_better = false;

  std::string key() const { return name + "," + filter; }
};

}  // namespace lewis
