// Refinement by several processes, before the merge that takes its blocks over (docs/clusters.md).
#pragma once

#include <lewis/lewis.h>

#include "app/refinement.h"
#include "refine/communicator.h"

namespace lewis {

// Refines as merge() would, together with other processes that make the same call, and leaves the
// blocks in OUT.refined.partial, where merge() with `resume` takes them over. What an earlier run
// has finished is taken over; of an OUT that is complete there is no pass. The first process
// checks everything before the others begin. Error as of merge(), and Error(kUsage) for a recipe
// without lewis.refine.
Refinement refine_together(const MergeJob& job, const Communicator& ranks,
                           const RunContext& context);

}  // namespace lewis
