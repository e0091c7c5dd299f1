// A YAML file that describes a task of its user's own.
#pragma once

#include <filesystem>

#include "eval/tasks/own_task.h"

namespace lewis {

// Paths in it are seen from its folder. Throws Error(kUsage) "FILE:LINE: ..." for what is not as
// docs/tasks.md says, unknown keys included.
OwnTask read_own_task(const std::filesystem::path& file);

}  // namespace lewis
