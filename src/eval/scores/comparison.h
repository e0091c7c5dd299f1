// One model against another on the same items: the difference, how sure it is, and what difference
// could have been shown.
#pragma once

#include <span>

#include "eval/scores/intervals.h"
#include "eval/scores/metric.h"

namespace lewis {

struct Comparison {
  // The difference of the metric's means: in nats where the metric is the exponential of one.
  PairedDifference difference;
  bool mcnemar = false;    // the test: McNemar's exact one, or the bootstrap's p-value
  double p = 1;            // of this comparison alone
  double p_corrected = 1;  // for all comparisons that were made together (correct)
  double detectable = 0;   // with 80 % power at 5 %; 0 where the items do not vary

  // The interval leaves out zero, the difference is two standard errors at least, and the
  // corrected p-value is below 5 %.
  bool shown() const;
};

// b against a. McNemar's test where both are only right (1) or wrong (0). Throws Error(kFailed)
// as paired_difference does.
Comparison compare(const MetricInfo& metric, std::span<const ItemScore> a,
                   std::span<const ItemScore> b);

// Sets p_corrected of comparisons that are shown together.
void correct(std::span<Comparison* const> together);

}  // namespace lewis
