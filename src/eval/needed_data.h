// The data sets that a task needs and that are not on this machine yet.
#pragma once

#include <string>
#include <vector>

#include "eval/tasks.h"

namespace lewis {

// "OWNER/NAME", with "#CONFIG/SPLIT" if a part is meant: the data that the task names by such an
// id, and those of a known task where they are neither in its data folder nor in the hub's cache.
// Error(kUsage): an unknown task.
std::vector<std::string> data_to_fetch(const TaskOptions& task);

}  // namespace lewis
