// Scores on the card of a merged model.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "report/report.h"

namespace lewis {

// The card with a section about the scores, in place of one that it has: a table with 95 %
// intervals, and in words how the merge compares with the others. Names in `panels` are shown as
// they are.
std::string with_scores(const std::string& card, const std::vector<ScorePanel>& panels);

// Writes that section into OUT/README.md, and the card's new hash into the manifest.
void write_scores(const std::filesystem::path& out, const std::vector<ScorePanel>& panels);

}  // namespace lewis
