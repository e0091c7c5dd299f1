// The report of a folder that lewis merged, as `lewis report` and `lewis merge --report` write it.
#pragma once

#include <filesystem>
#include <vector>

#include "base/json_fwd.h"
#include "base/progress.h"
#include "base/threads.h"
#include "cli/guidance.h"

namespace lewis {

struct ReportOptions {
  std::filesystem::path out;                // the merged model
  std::filesystem::path file;               // of the page; "": OUT/report.html
  std::filesystem::path figures;            // folder of the figures; "": none
  std::vector<std::filesystem::path> eval;  // results of `lewis eval` or lm-evaluation-harness
  bool diagnostics = true;                  // read the weights, run the models once more
  GuidanceOptions guidance{};               // how they are run
};

// Writes the page (and the figures) and returns what was written and the numbers in it. What cannot
// be shown is said on the page, and why. Error(kInput): OUT was not written by lewis, a file is not
// what it must be.
Json write_report(const ReportOptions& options, Threads& threads, const ProgressFn& progress);

}  // namespace lewis
