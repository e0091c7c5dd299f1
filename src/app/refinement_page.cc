#include "app/refinement_page.h"

#include <fmt/format.h>

#include <array>

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

// "ridge 0.1, alpha 0.5": the numbers that are not the defaults.
std::string numbers_of(const LayerChoice& choice) {
  const LayerChoice standard;
  std::string numbers;
  const auto add = [&](const std::string& number) {
    numbers += (numbers.empty() ? "" : ", ") + number;
  };
  if (choice.alpha != standard.alpha) add(fmt::format("alpha {:g}", choice.alpha));
  if (choice.ridge != standard.ridge) add(fmt::format("ridge {:g}", choice.ridge));
  if (choice.prior_scale != standard.prior_scale)
    add(fmt::format("prior_scale {:g}", choice.prior_scale));
  if (choice.weighting != standard.weighting)
    add(fmt::format("weighting {}", name_of(choice.weighting)));
  return numbers;
}

// The groups of layers for which held-out text chose something else than the defaults.
NumberTable chosen_table(const RefineReport& report, const std::string& pass) {
  NumberTable table{
      "Numbers chosen" + pass, "", {"block", "layers", "chosen", "before", "after"}, {}};
  size_t groups = 0;
  for (size_t b = 0; b < report.blocks.size(); ++b) {
    for (const ChoiceRecord& c : report.blocks[b].choices) {
      ++groups;
      const std::string numbers = numbers_of(c.choice);
      if (!numbers.empty())
        table.rows.push_back({block_name(report, b), c.layers, numbers,
                              fmt::format("{:.3g}", c.error_default),
                              fmt::format("{:.3g}", c.error)});
    }
  }
  table.note = fmt::format(
      "Layers that share an input choose together. {} of {} groups left the defaults, since that "
      "lessens the error of their outputs on held-out text by more than noise: that error before "
      "the choice, with the defaults, and after it.",
      table.rows.size(), groups);
  if (groups == 0) table.head.clear();
  return table;
}

// Which of the experts' choices of routed experts the merge makes, block by block.
NumberTable router_table(const RefineReport& report, const std::string& pass) {
  NumberTable table{"Routers" + pass,
                    "The share of each expert model's choices of routed experts, for its own "
                    "text, that the merge makes as well: by its router as merged → as refined. "
                    "Experts in the order of the recipe's calibration.",
                    {},
                    {}};
  for (size_t b = 0; b < report.blocks.size(); ++b) {
    const std::vector<RouterChoices>& routers = report.blocks[b].routers;
    if (routers.empty()) continue;
    table.head = {"block"};
    std::vector<std::string> row = {block_name(report, b)};
    for (size_t k = 0; k < routers.size(); ++k) {
      table.head.push_back(fmt::format("expert {}", k + 1));
      row.push_back(
          fmt::format("{:.1f} → {:.1f} %", 100 * routers[k].before, 100 * routers[k].after));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
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
  for (size_t p = 0; p < passes.size(); ++p) {
    const RefineReport& report = passes[p];
    const std::string pass = passes.size() > 1 ? fmt::format(", pass {}", p + 1) : "";
    NumberTable table{
        "Refinement" + pass,
        fmt::format("Fitted to {} tokens, judged on {} that were held out: the relative square of "
                    "the difference between the block's output and the experts'.",
                    with_commas(report.tokens - report.held_out), with_commas(report.held_out)),
        {"block", "as merged", "refined", "held-out text", "time"},
        {}};
    for (size_t b = 0; b < report.blocks.size(); ++b) {
      const BlockResult& block = report.blocks[b];
      const std::string before = report.held_out ? fmt::format("{:.4g}", block.error_prior) : "";
      table.rows.push_back({block_name(report, b), before,
                            fmt::format("{:.4g}", block.error_solved), decision_of(report, block),
                            human_seconds(block.seconds)});
    }
    tables.push_back(std::move(table));
    for (NumberTable& more : std::array{chosen_table(report, pass), router_table(report, pass)})
      if (!more.head.empty()) tables.push_back(std::move(more));
  }
  return tables;
}

}  // namespace lewis
