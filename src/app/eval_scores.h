// Results of evaluations as a report shows them.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "report/report.h"

namespace lewis {

// The role of a model in the merge, by the name that the evaluation's command gave it.
using RoleOf = std::function<Role(const std::string& model)>;

// The panels of what `lewis eval --output-path` or lm-evaluation-harness wrote: files, a model's
// folder, or a folder of such folders. Base, experts, others, then the merged model, which is
// compared with the others on the items that both have. Error(kInput) as read_results has them.
std::vector<ScorePanel> read_scores(const std::vector<std::filesystem::path>& paths,
                                    const RoleOf& role_of);

}  // namespace lewis
