// The resources of a verb: its threads, and progress that notices the caller's wish to end.
#pragma once

#include <lewis/lewis.h>

#include "base/threads.h"

namespace lewis {

struct RunResources {
  explicit RunResources(const RunContext& context);

  Threads threads;
  // Throws Error(kInterrupted) once the caller has set its flag, else calls the caller's function.
  ProgressFn progress;
};

// The recipe; Error(kUsage) where the job has none.
const Recipe& needed(const RecipePtr& recipe);

}  // namespace lewis
