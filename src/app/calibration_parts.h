// The calibrations of a recipe, shared by several workers (docs/clusters.md).
#pragma once

#include <lewis/lewis.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "app/guidance.h"
#include "app/run.h"

namespace lewis {

// Which worker measures which pieces. It depends on the texts and the models alone, not on what is
// done, so that all workers cut alike.
class CalibrationCut {
 public:
  // `costs`: of calibration_jobs(), in their order. Of two with the same key the first one counts.
  CalibrationCut(const std::vector<CalibrationCost>& costs, uint64_t parts);

  struct Unit {
    size_t job = 0, piece = 0;
    uint64_t part = 0;
  };
  const std::vector<Unit>& units() const { return units_; }
  // The pieces of a part by job. They ascend.
  std::map<size_t, std::vector<size_t>> share(uint64_t part) const;

 private:
  std::vector<Unit> units_;
};

struct CompleteText {
  std::string model;
  CalibrationResult result;
};
struct PartsReport {
  std::vector<CompleteText> complete;
  uint64_t pieces = 0, measured = 0, left = 0;
};

// Measures the pieces of a part that nobody has measured and no living worker has claimed, and adds
// up every text that is complete then. Without a part it only adds up; Error(kUsage) that names
// what is missing. Error(kUsage): there is no cache.
PartsReport calibrate_part(const Recipe& recipe, const std::optional<MergePart>& part,
                           const GuidanceOptions& options, RunResources& run);

}  // namespace lewis
