// Facts about a merge, found in the merged folder and in the models of its recipe.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "app/run.h"
#include "app/run_record.h"
#include "io/manifest.h"
#include "merge/diagnostics.h"
#include "merge/public_names.h"
#include "recipe/recipe.h"

namespace lewis {

// The origin of a merge as its manifest states it, for people.
struct MergeOrigin {
  std::string version;
  uint64_t seed = 0;
  std::vector<std::pair<std::string, std::string>> sources;  // model, fingerprint
};

struct Findings {
  Manifest manifest;
  MergeOrigin about;
  std::optional<RunRecord> record;
  std::optional<Recipe> recipe;
  std::unique_ptr<PublicNames> names;  // of `recipe`; null where that is missing
  std::unique_ptr<MergeInputs> inputs;
  std::shared_ptr<const MergeDiagnostics> diagnostics;
  std::vector<ModuleValues> errors;  // activation errors, by expert
  std::vector<std::string> missing;  // facts that could not be found, and why; one line each
};

// Error(kInput): the folder was not written by lewis.
Findings look_into(const ReportJob& job, RunResources& run);

}  // namespace lewis
