// lewis tune RECIPE -o OUT: finds the numbers that the recipe marks as ranges.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "base/error.h"
#include "base/json.h"
#include "base/suggest.h"
#include "cli/table.h"
#include "cli/tuning.h"
#include "cli/verbs.h"
#include "io/file.h"

namespace lewis {
namespace {

struct Options {
  std::filesystem::path recipe, out;
  TuneOptions tune;
  std::string objective = "relative", max_memory;
  std::shared_ptr<CommonOptions> common;
};

std::filesystem::path journal_of(const std::filesystem::path& out) {
  return out.string() + ".journal.jsonl";
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::string gain_text(const PairedDifference& gain) {
  return fmt::format("{:+.4f} [{:+.4f}, {:+.4f}]", gain.difference, gain.low, gain.high);
}

// The recipe with plain values, and on top what they are and what they brought.
std::string tuned_text(const TunableRecipe& tunable, const TuneReport& report) {
  std::string text = "# Found by lewis tune:\n";
  for (size_t i = 0; i < report.values.size(); ++i) {
    const SearchRange& r = tunable.ranges()[i];
    text += fmt::format("#   {}: {} of [{}, {}]\n", r.path, report.values[i], r.low, r.high);
  }
  text += fmt::format("# On held-out calibration text, against the start: {}\n",
                      gain_text(report.gain));
  return text + to_yaml(tunable.with(report.values), false);
}

Json report_json(const Options& o, const TunableRecipe& tunable, const Recipe& recipe,
                 const TuneReport& r) {
  Json values = Json::object(), entries = Json::array();
  for (size_t i = 0; i < r.values.size(); ++i) values[tunable.ranges()[i].path] = r.values[i];
  for (size_t e = 0; e < r.base.size(); ++e) {
    entries.push_back({{"model", recipe.lewis->calibration[e].model},
                       {"items", r.base[e].size()},
                       {"base", mean(r.base[e])},
                       {"expert", mean(r.expert[e])},
                       {"start", mean(r.start[e])},
                       {"found", mean(r.found[e])}});
  }
  return {{"out", o.out.string()},
          {"values", values},
          {"evaluations", r.evaluations},
          {"taken_over", r.taken_over},
          {"objective", {{"start", r.start_objective}, {"found", r.objective}}},
          {"held_out",
           {{"gain", r.gain.difference},
            {"low", r.gain.low},
            {"high", r.gain.high},
            {"shown", r.gain.low > 0 || r.gain.high < 0},
            {"entries", entries}}}};
}

void print_report(const Options& o, const TunableRecipe& tunable, const Recipe& recipe,
                  const TuneReport& r) {
  const Terminal terminal = Terminal::of(STDOUT_FILENO);
  Table values({{"", Align::kLeft}, {"from"}, {"to"}, {"start"}, {"found"}});
  for (size_t i = 0; i < r.values.size(); ++i) {
    const SearchRange& s = tunable.ranges()[i];
    values.add({s.path, fmt::format("{}", s.low), fmt::format("{}", s.high),
                fmt::format("{:.4g}", s.start), fmt::format("{}", r.values[i])});
  }
  fmt::print("{}\n", values.text(terminal));
  Table losses({{"answer loss on held-out text", Align::kLeft},
                {"items"},
                {"base"},
                {"expert"},
                {"start"},
                {"found"}});
  for (size_t e = 0; e < r.base.size(); ++e) {
    const auto cell = [](const std::vector<double>& v) { return fmt::format("{:.4f}", mean(v)); };
    losses.add({recipe.lewis->calibration[e].model, std::to_string(r.base[e].size()),
                cell(r.base[e]), cell(r.expert[e]), cell(r.start[e]), cell(r.found[e])});
  }
  fmt::print("{}\n", losses.text(terminal));
  const char* objective =
      o.tune.plain_mean ? "mean loss" : "mean loss relative to each expert (0) and the base (1)";
  fmt::print("Objective: {}.\nFitted: {:.4f} -> {:.4f} in {} evaluations{}.\n", objective,
             r.start_objective, r.objective, r.evaluations,
             r.taken_over ? fmt::format(" ({} answers from the journal)", r.taken_over) : "");
  fmt::print("Held out: {} with its 95 % interval: {}.\nWritten: {}\n", gain_text(r.gain),
             r.gain.high < 0  ? "better"
             : r.gain.low > 0 ? "worse"
                              : "no difference is shown",
             o.out.string());
}

void run_tune(Options& o) {
  static constexpr std::array<std::string_view, 2> kObjectives = {"relative", "mean"};
  if (std::ranges::find(kObjectives, o.objective) == kObjectives.end()) {
    throw usage_error("--objective {}: expected relative or mean; the nearest is '{}'", o.objective,
                      nearest_name(o.objective, kObjectives));
  }
  if (o.tune.evaluations == 0) throw usage_error("--evaluations must be at least 1");
  o.tune.plain_mean = o.objective == "mean";
  if (!o.max_memory.empty()) o.tune.guidance.max_memory = parse_bytes(o.max_memory, "--max-memory");
  Threads threads(o.common->threads);
  ProgressPrinter progress(o.common->quiet);
  const TunableRecipe tunable = TunableRecipe::read(o.recipe);
  if (std::filesystem::is_directory(o.out))
    throw usage_error("-o {}: is a folder, expected a recipe's file", o.out.string());
  if (std::filesystem::exists(o.out) && std::filesystem::equivalent(o.out, o.recipe))
    throw usage_error("-o {}: is the recipe itself", o.out.string());
  const std::filesystem::path file = journal_of(o.out);
  TuneReport report;
  try {
    // Refuses what can be refused before the journal is touched.
    check_tuning(tunable, o.tune);
    TuneJournal journal(file, tuning_identity(tunable, o.tune));
    report = tune(tunable, o.tune, &journal, threads, progress.callback());
  } catch (const Error& e) {
    if (e.code() != ExitCode::kInterrupted) throw;
    throw Error(e.code(), fmt::format("{}; what is known so far stays in {}, the same command goes "
                                      "on from there",
                                      e.what(), file.string()));
  }
  write_file_durably(o.out, tuned_text(tunable, report));
  const Recipe recipe = tunable.with(report.values);
  if (o.common->json) {
    fmt::print("{}\n", report_json(o, tunable, recipe, report).dump(2));
  } else {
    print_report(o, tunable, recipe, report);
  }
}

}  // namespace

void add_tune_verb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "tune", "Find the numbers that a recipe marks as {search: [LOW, HIGH]}, on calibration text");
  verb->add_option("RECIPE", o->recipe, "Recipe with ranges and lewis.calibration")->required();
  verb->add_option("-o,--out", o->out, "The recipe with plain values; OUT.journal.jsonl beside it")
      ->required();
  verb->add_option("--evaluations", o->tune.evaluations, "Merges to score (default: 24)");
  verb->add_option("--samples", o->tune.samples,
                   "Items of each calibration text (default: 96; 0: all)");
  verb->add_option("--held-out", o->tune.held_out,
                   "Share of them that the search does not see (default: a third)");
  verb->add_option("--seed", o->tune.seed, "Of which those are");
  verb->add_option("--objective", o->objective,
                   "relative (default): loss between each expert's (0) and the base's (1); mean");
  verb->add_flag("--force", o->tune.force, "Take data that is named as a test set");
  verb->add_option("--cache", o->tune.guidance.cache, "Folder of the statistics' cache");
  verb->add_option("--max-memory", o->max_memory,
                   "Bytes of memory of calibrations (K, M, B: decimal)");
  add_compute_option(*verb, o->tune.guidance.compute);
  o->common = add_common_options(*verb);
  verb->callback([o] { run_tune(*o); });
}

}  // namespace lewis
