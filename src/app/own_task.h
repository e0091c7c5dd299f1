// Reads a YAML file in which a user describes a task.
#pragma once

#include <filesystem>

#include "eval/tasks/own_task.h"

namespace lewis {

// Paths in the file are relative to its folder. Throws Error(kUsage) "FILE:LINE: ..." for what is
// not as docs/tasks.md says, unknown keys included.
OwnTask read_own_task(const std::filesystem::path& file);

}  // namespace lewis
