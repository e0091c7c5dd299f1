#include "study_page.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>
#include <optional>

#include "base/error.h"
#include "base/random.h"

namespace lewis {
namespace {

constexpr uint32_t kResamples = 4000;

double mean(const std::vector<double>& v) {
  return std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(v.size());
}

struct Interval {
  double value = 0, low = 0, high = 0;
};

// The share of the gap between base (1) and each expert (0) that is left: the mean over tasks of
// (loss - expert's) / (base's - expert's).
class Gap {
 public:
  explicit Gap(const StudyPage& page) {
    for (size_t t = 0; t < page.tasks.size(); ++t) {
      const double expert = mean(page.experts[t][t]), base = mean(page.base[t]);
      offset_.push_back(expert);
      factor_.push_back(1 / (base - expert) / static_cast<double>(page.tasks.size()));
    }
  }

  // Of a row, or less that of another, with a 95 % bootstrap interval: each resample draws
  // calibration draws and, within each task, test items, both with replacement and the same for
  // both rows.
  Interval interval(const Row& a, const Row* b) const {
    Interval result;
    std::vector<double> values(kResamples);
    result.value = value(a, b, std::nullopt);
    for (uint32_t r = 0; r < kResamples; ++r) values[r] = value(a, b, r);
    std::ranges::sort(values);
    result.low = values[static_cast<size_t>(0.025 * kResamples)];
    result.high = values[static_cast<size_t>(0.975 * kResamples)];
    return result;
  }

 private:
  double value(const Row& a, const Row* b, std::optional<uint32_t> resample) const {
    const size_t draws = std::max(a.losses.size(), b ? b->losses.size() : 1);
    double sum = 0;
    for (size_t t = 0; t < offset_.size(); ++t) {
      const size_t n = a.losses[0][t].size();
      for (size_t d = 0; d < draws; ++d) {
        const size_t draw = pick(resample, 0, d, draws);
        const auto& x = a.losses[draw % a.losses.size()][t];
        const auto* y = b ? &b->losses[draw % b->losses.size()][t] : nullptr;
        double difference = 0;
        for (size_t i = 0; i < n; ++i) {
          const size_t item = pick(resample, static_cast<uint32_t>(t) + 1, i, n);
          difference += x[item] - (y ? (*y)[item] : offset_[t]);
        }
        sum += difference / static_cast<double>(n * draws) * factor_[t];
      }
    }
    return sum;
  }

  static size_t pick(std::optional<uint32_t> resample, uint32_t what, size_t i, size_t n) {
    if (!resample) return i;
    const auto random = philox4x32({static_cast<uint32_t>(i), *resample, what, 0}, {17, 0});
    return static_cast<size_t>(uint64_t{random[0]} * n >> 32);
  }

  std::vector<double> offset_, factor_;
};

double mean_loss(const Row& row, size_t task) {
  double sum = 0;
  for (const Losses& l : row.losses) sum += mean(l[task]) / static_cast<double>(row.losses.size());
  return sum;
}

const Row* find(const StudyPage& page, const std::string& name) {
  const auto row = std::ranges::find(page.rows, name, &Row::name);
  return row == page.rows.end() ? nullptr : &*row;
}

std::string percent(const Interval& i) {
  return fmt::format("{:.1f} [{:.1f}, {:.1f}]", 100 * i.value, 100 * i.low, 100 * i.high);
}

struct Verdict {
  const Claim* claim;
  Interval difference;
  const char* word;
};

std::vector<Verdict> verdicts(const StudyPage& page, const Gap& gap) {
  std::vector<Verdict> result;
  for (const Claim& c : page.claims) {
    const Row *a = find(page, c.a), *b = find(page, c.b);
    if (!a || !b) continue;
    const Interval d = gap.interval(*a, b);
    result.push_back({&c, d,
                      d.high < 0  ? "holds"
                      : d.low > 0 ? "the opposite holds"
                                  : "not shown"});
  }
  return result;
}

// ---- figures ----

struct Dot {
  std::string label;
  Interval interval;
};

// Dots with intervals, one a line, over an axis in percent of the gap.
std::string dots_svg(const std::string& title, const std::vector<Dot>& dots) {
  constexpr double kLeft = 360, kWidth = 440, kLine = 18, kTop = 42;
  double low = 0, high = 0;
  for (const Dot& d : dots) {
    low = std::min(low, d.interval.low);
    high = std::max(high, d.interval.high);
  }
  high = std::min(high, 1.5);
  const double span = std::max(high - low, 1e-6);
  const auto x = [&](double v) { return kLeft + kWidth * (std::clamp(v, low, high) - low) / span; };
  const double height = kTop + kLine * static_cast<double>(dots.size()) + 30;
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" "
      "height=\"100%\" fill=\"#ffffff\"/>\n<text x=\"8\" y=\"20\" font-size=\"14\">{2}</text>\n",
      kLeft + kWidth + 30, height, title);
  const double step = span > 0.8 ? 0.25 : span > 0.3 ? 0.1 : span > 0.12 ? 0.05 : 0.02;
  for (double tick = std::ceil(low / step) * step; tick <= high + 1e-9; tick += step) {
    const bool zero = std::abs(tick) < 1e-9;
    svg += fmt::format(
        "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1}\" y2=\"{2}\" stroke=\"{3}\"/>\n<text "
        "x=\"{0:.1f}\" y=\"{4}\" text-anchor=\"middle\" fill=\"#555555\">{5:.0f} %</text>\n",
        x(tick), kTop - 8, height - 24, zero ? "#555555" : "#dddddd", height - 8, 100 * tick);
  }
  double y = kTop + 6;
  for (const Dot& d : dots) {
    svg += fmt::format(
        "<text x=\"{0}\" y=\"{1:.1f}\" text-anchor=\"end\">{2}</text>\n<line x1=\"{3:.1f}\" "
        "x2=\"{4:.1f}\" y1=\"{5:.1f}\" y2=\"{5:.1f}\" stroke=\"#0072b2\" "
        "stroke-width=\"2\"/>\n<circle cx=\"{6:.1f}\" cy=\"{5:.1f}\" r=\"3.5\" "
        "fill=\"#0072b2\"/>\n",
        kLeft - 10, y + 4, d.label, x(d.interval.low), x(d.interval.high), y, x(d.interval.value));
    y += kLine;
  }
  return svg + "</svg>\n";
}

void write_text(const std::filesystem::path& file, const std::string& text) {
  std::ofstream out(file, std::ios::binary);
  out << text;
  out.close();
  if (!out) throw resource_error("{}: cannot be written", file.string());
}

// ---- page ----

std::string escaped(std::string text) {  // in a cell of a table
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2)
    text.insert(at, "\\");
  return text;
}

std::string header(const StudyPage& page, const std::string& figure) {
  return fmt::format(
      "# Study: what helps a merge, and what does not\n\n"
      "Written by `make study`; do not edit. Merges of {} experts ({}) on one base, scored by "
      "answer "
      "loss on {} test items of\neach task that nothing was calibrated or tuned on. Rows that "
      "calibrate do so on {} draws of training text; tuned ones\nfind their numbers on each draw's "
      "training text alone ({} evaluations, a third held out).\n\n"
      "**Gap left**: the mean over tasks of (loss - expert's) / (base's - expert's), in percent: 0 "
      "is as good as each expert on\nits own task, 100 as the base. Intervals are 95 % bootstrap "
      "intervals over test items and draws together, paired where two\nrows are compared. With {} "
      "draws the share of the draws is coarse; {} comparisons are made, so one in twenty that "
      "shows\n"
      "something may do so by chance. The models are tiny and their task vectors hardly collide: "
      "what "
      "holds here need not hold\nfor large ones (`build/release/lewis_study --help` names other "
      "models).\n\n![gap left by each merge]({}_rows.svg)\n\n",
      page.tasks.size(), fmt::join(page.tasks, ", "), page.base[0].size(), page.draws,
      page.evaluations, page.draws, page.claims.size(), figure);
}

std::string claims_text(const std::vector<Verdict>& all, const std::string& figure) {
  std::string text =
      "## What holds and what does not\n\nDifference of the gap left, in points of percent; below "
      "0 "
      "the claim is true of these models.\n\n| claim | compared | difference | verdict |\n"
      "|---|---|---|---|\n";
  for (const Verdict& v : all) {
    text += fmt::format("| {} | {} against {} | {} | {} |\n", escaped(v.claim->text),
                        escaped(v.claim->a), escaped(v.claim->b), percent(v.difference), v.word);
  }
  return text + fmt::format("\n![differences with intervals]({}_claims.svg)\n\n", figure);
}

std::string rows_text(const StudyPage& page, const std::vector<Dot>& dots) {
  std::string text = "## All rows\n", group;
  for (size_t r = 0; r < page.rows.size(); ++r) {
    const Row& row = page.rows[r];
    if (row.group != group) {
      group = row.group;
      text += fmt::format("\n### {}\n\n| merge |", group);
      for (const std::string& t : page.tasks) text += " loss " + t + " |";
      text += " gap left, % | |\n|---|";
      for (size_t t = 0; t < page.tasks.size(); ++t) text += "---|";
      text += "---|---|\n";
    }
    text += "| " + escaped(row.name) + " |";
    for (size_t t = 0; t < page.tasks.size(); ++t)
      text += fmt::format(" {:.4f} |", mean_loss(row, t));
    text += fmt::format(" {} | {} |\n", percent(dots[r].interval), escaped(row.note));
  }
  return text;
}

// The zoo's rows of the prototype's table, on which both tasks are compared.
std::string prototype_text(const StudyPage& page) {
  const Row* tuned = find(page, "regression, 100 texts, scale and ridge tuned");
  if (!tuned || page.tasks != std::vector<std::string>{"math", "code"}) return "";
  return fmt::format(
      "\n## Against the prototype's table\n\nThe best merges that a prototype in Python found by "
      "looking at test items (300 of each task) had answer losses .0343 and\n.0174 (math, code; "
      "regression, scale 1.1, ridge 1) and the best plain sums .0363 (scale 1.0) and .0206 (scale "
      "0.8). With scale\nand ridge found from calibration text alone, the regression above has "
      "{:.4f} "
      "and {:.4f} on {} of those items.\n",
      mean_loss(*tuned, 0), mean_loss(*tuned, 1), page.base[0].size());
}

}  // namespace

void write_page(const StudyPage& page, const std::filesystem::path& out) {
  const Gap gap(page);
  const std::string figure = out.stem().string();
  std::vector<Dot> dots, differences;
  for (const Row& r : page.rows) dots.push_back({r.name, gap.interval(r, nullptr)});
  const std::vector<Verdict> all = verdicts(page, gap);
  for (const Verdict& v : all) differences.push_back({v.claim->a, v.difference});
  if (!out.parent_path().empty()) std::filesystem::create_directories(out.parent_path());
  const auto beside = [&](const char* end) { return out.parent_path() / (figure + end); };
  std::vector<Dot> merges;
  for (const Dot& d : dots) {
    if (d.interval.value < 1) merges.push_back(d);
  }
  write_text(beside("_rows.svg"), dots_svg("Gap left, % (0: each expert, 100: base)", merges));
  write_text(beside("_claims.svg"),
             dots_svg("Difference of the gap left (below 0: the claim is true)", differences));
  write_text(out, header(page, figure) + claims_text(all, figure) + rows_text(page, dots) +
                      prototype_text(page));
}

}  // namespace lewis
