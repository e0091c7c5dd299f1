#include "app/run.h"

#include "app/interrupts.h"
#include "base/error.h"

namespace lewis {

RunResources::RunResources(const RunContext& context)
    : threads(context.threads),
      progress([interrupted = context.interrupted, next = context.progress](const Progress& p) {
        if (interrupted) check_interrupt(*interrupted);
        if (next) next(p);
      }) {}

const Recipe& needed(const RecipePtr& recipe) {
  if (!recipe) throw usage_error("the job has no recipe");
  return *recipe;
}

}  // namespace lewis
