// The resources of a verb: its threads, progress that notices the caller's wish to end, and notes.
#pragma once

#include <lewis/lewis.h>

#include <memory>
#include <string>
#include <vector>

#include "base/notes.h"
#include "base/threads.h"

namespace lewis {

struct RunResources {
  explicit RunResources(const RunContext& context);

  Threads threads;
  // Throws Error(kInterrupted) once the caller has set its flag, else calls the caller's function.
  ProgressFn progress;
  // Tells the caller a line as the notice "lewis: note: LINE", unless it was told before.
  NoteFn note;
  // The lines that were told.
  std::shared_ptr<const std::vector<std::string>> notes;
};

// The recipe; Error(kUsage) where the job has none.
const Recipe& needed(const RecipePtr& recipe);

}  // namespace lewis
