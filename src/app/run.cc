#include "app/run.h"

#include <algorithm>

#include "app/interrupts.h"
#include "base/error.h"

namespace lewis {

RunResources::RunResources(const RunContext& context)
    : threads(context.threads),
      progress([interrupted = context.interrupted, next = context.progress](const Progress& p) {
        if (interrupted) check_interrupt(*interrupted);
        if (next) next(p);
      }) {
  const auto told = std::make_shared<std::vector<std::string>>();
  note = [told, tell = context.notice](const std::string& line) {
    if (std::ranges::find(*told, line) != told->end()) return;
    told->push_back(line);
    if (tell) tell({true, "lewis: note: " + line});
  };
  notes = told;
}

const Recipe& needed(const RecipePtr& recipe) {
  if (!recipe) throw usage_error("the job has no recipe");
  return *recipe;
}

}  // namespace lewis
