// What the study found, and the page that says so.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace lewis {

using Losses = std::vector<std::vector<double>>;  // by task, by test item

struct Row {
  std::string group, name;
  std::vector<Losses> losses;  // by draw; one where no calibration text is drawn
  std::string note;
};

// That row a is better than row b.
struct Claim {
  std::string text, a, b;
};

struct StudyPage {
  std::vector<std::string> tasks;
  std::vector<Row> rows;
  std::vector<Claim> claims;
  Losses base;
  std::vector<Losses> experts;  // [t]: of task t's own expert, on all tasks
  size_t draws = 0, evaluations = 0;
};

// `out` and, beside it, figures OUT_rows.svg and OUT_claims.svg (without OUT's ending).
void write_page(const StudyPage& page, const std::filesystem::path& out);

}  // namespace lewis
