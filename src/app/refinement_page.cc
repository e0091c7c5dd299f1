#include "app/refinement_page.h"

#include <fmt/format.h>

#include "base/human.h"

namespace lewis {
namespace {

std::string title_of(size_t pass, size_t passes) {
  return passes > 1 ? fmt::format("pass {}", pass + 1) : "all experts";
}

std::string block_name(const RefineReport& report, size_t block) {
  return static_cast<int64_t>(block) < report.layers ? std::to_string(block) : "head";
}

std::string decision_of(const RefineReport& report, const BlockResult& b) {
  if (report.held_out == 0) return "refined; nothing was held out";
  if (b.kept_prior) return "left as merged";
  const double fell = b.error_prior > 0 ? 1 - b.error_solved / b.error_prior : 0;
  return fmt::format("refined: {:.0f} % less", 100 * fell);
}

// "gate_proj, up_proj: ridge 0.1, alpha 0.5": the numbers that are not the defaults.
std::string chosen_of(const BlockResult& b) {
  std::string text;
  for (const ChoiceRecord& c : b.choices) {
    const LayerChoice standard;
    std::string numbers;
    const auto add = [&](const std::string& number) {
      numbers += (numbers.empty() ? "" : ", ") + number;
    };
    if (c.choice.alpha != standard.alpha) add(fmt::format("alpha {:g}", c.choice.alpha));
    if (c.choice.ridge != standard.ridge) add(fmt::format("ridge {:g}", c.choice.ridge));
    if (c.choice.prior_scale != standard.prior_scale)
      add(fmt::format("prior_scale {:g}", c.choice.prior_scale));
    if (c.choice.weighting != standard.weighting)
      add(fmt::format("weighting {}", name_of(c.choice.weighting)));
    if (!numbers.empty())
      text += fmt::format("{}{}: {}", text.empty() ? "" : "; ", c.layers, numbers);
  }
  return text.empty() && !b.choices.empty() ? "the defaults" : text;
}

}  // namespace

HeatMaps refinement_measure(const std::vector<RefineReport>& passes) {
  HeatMaps measure{.name = "refinement",
                   .title = "Output error before and after refinement",
                   .explanation =
                       "How far the block's output in the merge is from what each expert "
                       "returns on held-out calibration text (relative square, the mean "
                       "over the experts), with the block as merged and as refined. Both "
                       "are fed by blocks that are refined already.",
                   .unit = Unit::kPercent,
                   .projections = {"as merged", "refined"}};
  for (size_t pass = 0; pass < passes.size(); ++pass) {
    const RefineReport& report = passes[pass];
    if (report.held_out == 0) continue;
    HeatMap map{title_of(pass, passes.size()), {{}, {}}};
    measure.layers.clear();
    for (int64_t layer = 0; layer < report.layers; ++layer) {
      const BlockResult& b = report.blocks.at(static_cast<size_t>(layer));
      measure.layers.push_back(layer);
      map.cells[0].push_back(b.error_prior);
      map.cells[1].push_back(b.kept_prior ? b.error_prior : b.error_solved);
    }
    measure.maps.push_back(std::move(map));
  }
  return measure;
}

std::vector<NumberTable> refinement_tables(const std::vector<RefineReport>& passes) {
  std::vector<NumberTable> tables;
  for (size_t pass = 0; pass < passes.size(); ++pass) {
    const RefineReport& report = passes[pass];
    bool choices = false;
    for (const BlockResult& b : report.blocks) choices = choices || !b.choices.empty();
    NumberTable table{
        passes.size() > 1 ? fmt::format("Refinement, pass {}", pass + 1) : "Refinement",
        fmt::format("Fitted to {} tokens, judged on {} that were held out: the relative square of "
                    "the difference between the block's output and the experts'.",
                    with_commas(report.tokens - report.held_out), with_commas(report.held_out)),
        {"block", "as merged", "refined", "held-out text", "time"},
        {}};
    if (choices) table.head.insert(table.head.end() - 1, "chosen");
    for (size_t b = 0; b < report.blocks.size(); ++b) {
      const BlockResult& block = report.blocks[b];
      const std::string before = report.held_out ? fmt::format("{:.4g}", block.error_prior) : "";
      std::vector<std::string> row = {block_name(report, b), before,
                                      fmt::format("{:.4g}", block.error_solved),
                                      decision_of(report, block), human_seconds(block.seconds)};
      if (choices) row.insert(row.end() - 1, chosen_of(block));
      table.rows.push_back(std::move(row));
    }
    tables.push_back(std::move(table));
  }
  return tables;
}

}  // namespace lewis
