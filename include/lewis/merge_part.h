// The parts into which a merge is cut for several workers (docs/clusters.md).
#pragma once

#include <cstdint>
#include <string>

#include <lewis/export.h>

namespace lewis {

// One of `count` shares of about the same cost.
struct MergePart {
  uint64_t index = 0, count = 1;  // index < count
};

// "3/8"; or "auto", which takes both numbers from the environment of an array job of Slurm, of
// srun, mpirun or an indexed job of Kubernetes; or "auto/8", which takes the index from there.
// Error(kUsage) that says what is wrong or missing.
LEWIS_API MergePart parse_part(const std::string& text);

}  // namespace lewis
