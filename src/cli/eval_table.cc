#include "cli/eval_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "cli/table.h"

namespace lewis {
namespace {

// A metric of a task, over all models: a column of the table.
struct MetricColumn {
  std::string task, label;
  MetricInfo info;
  std::vector<const TaskResults*> tasks;      // per model; null: it has no such result
  std::vector<const MetricResults*> metrics;  // per model
};

std::vector<MetricColumn> all_columns(const std::vector<ModelResults>& models) {
  std::vector<MetricColumn> columns;
  for (size_t i = 0; i < models.size(); ++i) {
    for (const TaskResults& task : models[i].tasks) {
      for (const MetricResults& metric : task.metrics) {
        auto column = std::ranges::find_if(columns, [&](const MetricColumn& c) {
          return c.task == task.name && c.info.key() == metric.info.key();
        });
        if (column == columns.end()) {
          columns.push_back({task.name, task.label, metric.info,
                             std::vector<const TaskResults*>(models.size()),
                             std::vector<const MetricResults*>(models.size())});
          column = columns.end() - 1;
        }
        column->tasks[i] = &task;
        column->metrics[i] = &metric;
      }
    }
  }
  return columns;
}

// Whether the column has the same scores as the one before, for every item of every model.
bool repeats(const MetricColumn& column, const MetricColumn& before) {
  if (column.task != before.task) return false;
  for (size_t i = 0; i < column.metrics.size(); ++i) {
    const MetricResults *a = column.metrics[i], *b = before.metrics[i];
    if ((a == nullptr) != (b == nullptr)) return false;
    if (a && (a->scores.empty() || a->scores != b->scores)) return false;
  }
  return true;
}

std::vector<MetricColumn> telling_columns(const std::vector<ModelResults>& models) {
  const std::vector<MetricColumn> all = all_columns(models);
  std::vector<MetricColumn> telling;
  for (size_t c = 0; c < all.size(); ++c) {
    if (c == 0 || !repeats(all[c], all[c - 1])) telling.push_back(all[c]);
  }
  return telling;
}

bool is_share(const MetricInfo& info) { return info.kind == MetricInfo::Kind::kShare; }
bool is_exponential(const MetricInfo& info) { return info.kind == MetricInfo::Kind::kExpMean; }

std::string score_cell(const MetricResults* m) {
  if (!m) return "-";
  const double unit = is_share(m->info) ? 100 : 1;
  int digits = is_share(m->info) ? 1 : 4;
  if (is_exponential(m->info) || std::abs(m->value) >= 100)
    digits = std::clamp(3 - static_cast<int>(std::log10(std::max(1.0, std::abs(m->value)))), 0, 3);
  std::string cell =
      fmt::format("{:.{}f}{}", unit * m->value, digits, is_share(m->info) ? " %" : "");
  if (m->standard_error) cell += fmt::format(" ± {:.{}f}", unit * *m->standard_error, digits);
  return cell;
}

struct Mark {
  const char *sign, *words, *color;
};
Mark mark_of(const MetricInfo& info, const Comparison& c) {
  if (!c.shown()) return {" ", "no difference shown", "2"};
  const bool better = (c.difference.difference > 0) == info.higher_is_better;
  return better ? Mark{"✓", "better", "32"} : Mark{"✗", "worse", "31"};
}

// "-0.0110 [-0.0123, -0.0098]"
std::string difference_text(const MetricInfo& info, const Comparison& c) {
  const double unit = is_share(info) ? 100 : 1;
  const int digits = is_share(info) ? 1 : 4;
  const PairedDifference& d = c.difference;
  return fmt::format("{}{:+.{}f} [{:+.{}f}, {:+.{}f}]", is_exponential(info) ? "log " : "",
                     unit * d.difference, digits, unit * d.low, digits, unit * d.high, digits);
}

std::string items_text(const MetricColumn& column) {
  std::set<size_t> counts;
  for (const TaskResults* task : column.tasks) {
    if (task && task->items) counts.insert(task->items);
  }
  std::string items = counts.empty() ? "?" : with_commas(*counts.begin());
  if (counts.size() > 1) items += " to " + with_commas(*counts.rbegin());
  return fmt::format("{} items, {} is better", items,
                     column.info.higher_is_better ? "more" : "less");
}

std::string metric_text(const MetricInfo& info) {
  return info.filter == "none" ? info.name : info.key();
}

// All in one: a line of scores for each model and, below it, how it differs from the baseline.
Table wide_table(const std::vector<ModelResults>& models, const std::vector<MetricColumn>& metrics,
                 bool color) {
  std::vector<Table::Column> columns = {{"", Align::kLeft}};
  std::vector<TerminalText> names = {""}, directions = {"model"};
  for (const MetricColumn& m : metrics) {
    columns.push_back({m.label, Align::kLeft});
    names.push_back(styled(metric_text(m.info), "2", color));
    directions.push_back(styled(items_text(m), "2", color));
  }
  Table table(columns);
  table.add(names);
  table.add(directions);
  table.add_line();
  for (size_t i = 0; i < models.size(); ++i) {
    std::vector<TerminalText> scores = {styled(models[i].name, "1", color)};
    std::vector<TerminalText> differences = {""};
    bool any = false;
    for (const MetricColumn& m : metrics) {
      scores.push_back(score_cell(m.metrics[i]));
      differences.emplace_back();
      if (!m.metrics[i] || !m.metrics[i]->comparison) continue;
      const Comparison& c = *m.metrics[i]->comparison;
      const Mark mark = mark_of(m.info, c);
      differences.back() = styled(difference_text(m.info, c) + " " + mark.sign, mark.color, color);
      any = true;
    }
    table.add(std::move(scores));
    if (any) table.add(std::move(differences));
  }
  return table;
}

// One metric: a line for each model.
TerminalText metric_block(const std::vector<ModelResults>& models, const MetricColumn& m,
                          const Terminal& terminal) {
  Table table({{"model", Align::kLeft},
               {"score", Align::kLeft},
               {"difference", Align::kLeft},
               {"p"},
               {"", Align::kLeft}});
  bool any = false;
  for (size_t i = 0; i < models.size(); ++i) {
    std::vector<TerminalText> row = {models[i].name, score_cell(m.metrics[i])};
    if (m.metrics[i] && m.metrics[i]->comparison) {
      const Comparison& c = *m.metrics[i]->comparison;
      const Mark mark = mark_of(m.info, c);
      row.push_back(styled(difference_text(m.info, c), mark.color, terminal.color));
      row.push_back(fmt::format("{:.2g}", c.p_corrected));
      row.push_back(styled(mark.sign, mark.color, terminal.color));
      any = true;
    }
    table.add(std::move(row));
  }
  if (!any) {
    table = Table({{"model", Align::kLeft}, {"score", Align::kLeft}});
    for (size_t i = 0; i < models.size(); ++i)
      table.add({models[i].name, score_cell(m.metrics[i])});
  }
  return terminal_text("{}  {}\n{}\n{}", styled(elide(m.label, 60), "1", terminal.color),
                       metric_text(m.info), styled(items_text(m), "2", terminal.color),
                       table.text(terminal));
}

// "gsm8k exact_match: 6.1 to 9.3 points": the differences that the comparisons could have shown.
TerminalText power_text(const std::vector<MetricColumn>& metrics) {
  TerminalText text;
  for (const MetricColumn& m : metrics) {
    double least = INFINITY, most = 0;
    for (const MetricResults* r : m.metrics) {
      if (!r || !r->comparison || r->comparison->detectable == 0) continue;
      least = std::min(least, r->comparison->detectable);
      most = std::max(most, r->comparison->detectable);
    }
    if (most == 0) continue;
    const bool share = is_share(m.info);
    const auto number = [&](double d) {
      return fmt::format("{:.{}f}", share ? 100 * d : d, share ? 1 : 4);
    };
    const std::string range =
        number(least) == number(most) ? number(most) : number(least) + " to " + number(most);
    text += terminal_text("  {}, {}: {}{}\n", m.label, metric_text(m.info), range,
                          share                    ? " points"
                          : is_exponential(m.info) ? " (log)"
                                                   : "");
  }
  return text;
}

std::vector<std::string> warnings(const std::vector<ModelResults>& models, size_t baseline,
                                  const std::vector<MetricColumn>& metrics) {
  std::set<std::string> lines;
  for (const MetricColumn& m : metrics) {
    const TaskResults* base = m.tasks[baseline];
    for (size_t i = 0; i < models.size(); ++i) {
      if (i == baseline || !m.metrics[i]) continue;
      const std::string what = fmt::format("{} on {}", models[i].name, m.label);
      if (!m.metrics[i]->comparison) {
        lines.insert(fmt::format("{}: no item in common with the baseline: no difference", what));
        continue;
      }
      const size_t common = m.metrics[i]->comparison->difference.items;
      if (common < std::max(m.tasks[i]->items, base ? base->items : 0))
        lines.insert(fmt::format("{}: {} items in common with the baseline", what, common));
      const size_t other = base ? other_prompts(*base, *m.tasks[i]) : 0;
      if (other)
        lines.insert(fmt::format("{}: {} items have another prompt (n-shot?)", what, other));
    }
  }
  return {lines.begin(), lines.end()};
}

TerminalText legend(const std::vector<ModelResults>& models, std::optional<size_t> baseline,
                    const std::vector<MetricColumn>& metrics) {
  TerminalText text = "Scores ± standard error";
  std::set<std::string> computes;
  for (const ModelResults& m : models) {
    if (!m.compute.empty()) computes.insert(m.compute);
  }
  if (!computes.empty()) text += fmt::format("; linear layers in {}", fmt::join(computes, ", "));
  text += TerminalText::ready(".\n");
  if (!baseline) return text;
  size_t comparisons = 0;
  bool mcnemar = false, bootstrap = false;
  for (const MetricColumn& m : metrics) {
    for (const MetricResults* r : m.metrics) {
      if (!r || !r->comparison) continue;
      ++comparisons;
      (r->comparison->mcnemar ? mcnemar : bootstrap) = true;
    }
  }
  if (!comparisons) return text;
  text += terminal_text(
      "Differences: to {}, paired by item, with 95 % intervals. ✓ better, ✗ worse;\n"
      "unmarked: no difference shown (the interval covers zero, or p is above 0.05).\n"
      "p, corrected for {} (Holm): {}.\n",
      models[*baseline].name, comparisons,
      mcnemar && bootstrap ? "McNemar's exact test of shares, else the bootstrap"
      : mcnemar            ? "McNemar's exact test"
                           : "the bootstrap");
  const TerminalText power = power_text(metrics);
  if (!power.empty())
    text +=
        terminal_text("True differences that so many items show in 80 % of all cases:\n{}", power);
  for (const std::string& line : warnings(models, *baseline, metrics))
    text += terminal_text("Note: {}.\n", line);
  return text;
}

}  // namespace

TerminalText results_text(const std::vector<ModelResults>& models, std::optional<size_t> baseline,
                          const Terminal& terminal) {
  const std::vector<MetricColumn> metrics = telling_columns(models);
  const Table wide = wide_table(models, metrics, terminal.color);
  TerminalText text;
  if (wide.width() <= static_cast<size_t>(terminal.width)) {
    text = wide.text(terminal);
  } else {
    for (const MetricColumn& m : metrics) {
      if (!text.empty()) text += TerminalText::ready("\n");
      text += metric_block(models, m, terminal);
    }
  }
  return for_terminal(terminal_text("{}\n{}", text, legend(models, baseline, metrics)), terminal);
}

}  // namespace lewis
