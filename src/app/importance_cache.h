// The importances that a plan has found, kept beside the statistics: whoever plans the same recipe
// again, as each worker of a merge does, need not read the weights for them.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "base/notes.h"
#include "plan/plan.h"

namespace lewis {

// Everything that the importances of one model depend on, except for the program.
struct ImportanceKey {
  std::string recipe;                    // as text, with all of its settings
  size_t model = 0;                      // of the recipe
  std::string base_hash, expert_hash;    // fingerprints
  const Statistics* statistics[3] = {};  // of base and expert, output changes; the last may be null
};

// Whether each of the statistics says what it depends on. Files that the user gives need not.
bool can_be_kept(const ImportanceKey& key);

// Fills the importances of `plan` from FOLDER/HASH.importances.json if that is there, else by
// `compute`, and then writes the file, durably; where it cannot, a note says so. A damaged file is
// written anew.
void cached_importances(const std::filesystem::path& folder, const ImportanceKey& key,
                        ModelPlan& plan, const std::function<void()>& compute, const NoteFn& note);

}  // namespace lewis
