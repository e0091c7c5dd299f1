#include "app/card_scores.h"

#include <fmt/format.h>

#include "base/hash.h"
#include "base/markdown.h"
#include "base/model_files.h"
#include "io/file.h"
#include "io/manifest.h"

namespace lewis {
namespace {

constexpr const char* kCard = "README.md";
constexpr std::string_view kBegin = "<!-- lewis: scores -->\n";
constexpr std::string_view kEnd = "<!-- lewis: end of scores -->\n";
// The section stands before this one, else at the end.
constexpr std::string_view kNext = "## How to merge it again\n";

std::string number(double value, Unit unit) {
  return unit == Unit::kPercent ? fmt::format("{:.1f} %", 100 * value)
                                : fmt::format("{:.4g}", value);
}

std::string comparison_words(const ScorePanel& panel, const ScoreComparison& c) {
  const std::string verdict = c.verdict == ScoreVerdict::kBetter  ? "better than"
                              : c.verdict == ScoreVerdict::kWorse ? "worse than"
                                                                  : "not shown to differ from";
  const Unit unit = c.unit.empty() ? panel.unit : Unit::kPlain;
  return fmt::format("- {}, {}: the merge is {} {} (difference {}, 95 % interval {} to {}{}{})\n",
                     markdown_text(panel.task), markdown_text(panel.metric), verdict,
                     markdown_text(c.against), number(c.difference, unit), number(c.low, unit),
                     number(c.high, unit), c.unit.empty() ? "" : ", ", c.unit);
}

std::string section_of(const std::vector<ScorePanel>& panels) {
  std::string text(kBegin);
  text +=
      "## Scores\n\nMeasured by `lewis eval` or lm-evaluation-harness; intervals cover 95 %.\n\n"
      "| task | metric | items | model | score | interval |\n|---|---|---|---|---|---|\n";
  std::string compared;
  for (const ScorePanel& panel : panels) {
    const std::string metric = panel.metric + (panel.higher_is_better ? "" : " (less is better)");
    for (const Score& s : panel.scores) {
      const std::string model = markdown_text(s.model);
      text += fmt::format(
          "| {} | {} | {} | {} | {} | {} to {} |\n", markdown_text(panel.task),
          markdown_text(metric), panel.items, s.role == Role::kMerged ? "**" + model + "**" : model,
          number(s.value, panel.unit), number(s.low, panel.unit), number(s.high, panel.unit));
    }
    for (const ScoreComparison& c : panel.comparisons) compared += comparison_words(panel, c);
  }
  if (!compared.empty()) text += "\nItem by item:\n\n" + compared;
  return text + std::string(kEnd) + "\n";
}

}  // namespace

std::string with_scores(const std::string& card, const std::vector<ScorePanel>& panels) {
  std::string text = card;
  const size_t begin = text.find(kBegin), end = text.find(kEnd, begin);
  if (begin != text.npos && end != text.npos)
    text.erase(begin, std::min(end + kEnd.size() + 1, text.size()) - begin);
  const size_t next = text.find(kNext);
  const std::string section = section_of(panels);
  if (next != text.npos) return text.insert(next, section);
  return text + (text.ends_with('\n') ? "\n" : "\n\n") + section;
}

void write_scores(const std::filesystem::path& out, const std::vector<ScorePanel>& panels) {
  const std::string card = with_scores(read_model_file(out, kCard), panels);
  Manifest manifest = read_manifest(out / kManifestName);
  manifest.files[kCard] = sha256_hex(card);
  write_file_durably(out / kCard, card);
  write_file_durably(out / kManifestName, manifest.text());
}

}  // namespace lewis
