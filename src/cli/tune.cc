// lewis tune RECIPE -o OUT: finds the numbers that the recipe marks as ranges.
#include <fmt/format.h>
#include <unistd.h>

#include <array>

#include "base/chosen_word.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "io/file.h"

namespace lewis {
namespace {

struct TuneArguments {
  TuneJob job;
  std::string objective = "relative", max_memory;
  std::shared_ptr<CommonOptions> common;
};

void print_values(const TuneResult& r, const Terminal& terminal) {
  Table values({{"", Align::kLeft}, {"from"}, {"to"}, {"start"}, {"found"}, {"worth, held out"}});
  for (const TunedValue& v : r.values) {
    const auto text = [&](double value) {
      return v.options.empty() ? fmt::format("{:.4g}", value)
                               : v.options.at(static_cast<size_t>(value));
    };
    const std::string worth = v.found == v.start ? ""
                                                 : fmt::format("{:+.4f} [{:+.4f}, {:+.4f}]",
                                                               v.worth, v.worth_low, v.worth_high);
    values.add({v.path, text(v.low), text(v.high), text(v.start), text(v.found), worth});
  }
  write_out("{}\n", values.text(terminal));
}

void print_losses(const TuneResult& r, const Terminal& terminal) {
  Table losses({{"answer loss on held-out text", Align::kLeft},
                {"items"},
                {"base"},
                {"expert"},
                {"start"},
                {"found"}});
  const auto cell = [](double loss) { return fmt::format("{:.4f}", loss); };
  for (const TunedLoss& l : r.losses) {
    losses.add({l.model, std::to_string(l.items), cell(l.base), cell(l.expert), cell(l.start),
                cell(l.found)});
  }
  write_out("{}\n", losses.text(terminal));
}

void print_tuning(const TuneArguments& o, const TuneResult& r) {
  const Terminal terminal = Terminal::of(STDOUT_FILENO);
  print_values(r, terminal);
  print_losses(r, terminal);
  const char* objective = o.job.options.plain_mean
                              ? "mean loss"
                              : "mean loss relative to each expert (0) and the base (1)";
  write_out("Objective: {}.\nFitted: {:.4f} -> {:.4f} in {} evaluations{}.\n", objective,
            r.start_objective, r.objective, r.evaluations,
            r.taken_over ? fmt::format(" ({} answers from the journal)", r.taken_over) : "");
  write_out("Held out: {:+.4f} [{:+.4f}, {:+.4f}] with its 95 % interval: {}.\nWritten: {}\n",
            r.gain, r.gain_low, r.gain_high,
            r.gain_high < 0  ? "better"
            : r.gain_low > 0 ? "worse"
                             : "no difference is shown",
            r.out.string());
}

void run_tune(TuneArguments& o) {
  static constexpr std::array<std::string_view, 2> kObjectives = {"relative", "mean"};
  TuneOptions& options = o.job.options;
  options.plain_mean = chosen_word("--objective", o.objective, kObjectives) == 1;
  if (!o.max_memory.empty())
    options.guidance.max_memory = parse_bytes(o.max_memory, "--max-memory");
  make_local(o.job.recipe, *o.common);
  ProgressPrinter progress(o.common->quiet);
  const TuneResult result = tune(o.job, run_context(*o.common, progress));
  if (o.common->json) {
    write_json_text(json_text(result));
  } else {
    print_tuning(o, result);
  }
}

}  // namespace

void add_tune_verb(CLI::App& app) {
  auto o = std::make_shared<TuneArguments>();
  CLI::App* verb = app.add_subcommand(
      "tune",
      "Find what a recipe leaves open as {search: [LOW, HIGH]} or {choose: [A, B]}, on calibration "
      "text");
  verb->add_option("RECIPE", o->job.recipe, "Recipe with ranges and lewis.calibration")->required();
  verb->add_option("-o,--out", o->job.out,
                   "The recipe with plain values; OUT.journal.jsonl beside it")
      ->required();
  verb->add_option("--evaluations", o->job.options.evaluations, "Merges to score (default: 24)");
  verb->add_option("--samples", o->job.options.samples,
                   "Items of each calibration text (default: 96; 0: all)");
  verb->add_option("--held-out", o->job.options.held_out,
                   "Share of them that the search does not see (default: a third)");
  verb->add_option("--seed", o->job.options.seed, "Of which those are");
  verb->add_option("--objective", o->objective,
                   "relative (default): loss between each expert's (0) and the base's (1); mean");
  verb->add_flag("--force", o->job.options.force, "Take data that is named as a test set");
  verb->add_option("--cache", o->job.options.guidance.cache, "Folder of the statistics' cache");
  verb->add_option("--max-memory", o->max_memory,
                   "Bytes of memory of calibration and refinement (K, M, B: decimal)");
  add_compute_option(*verb, o->job.options.guidance.compute);
  add_lenient_option(*verb, o->job.unknown_keys);
  o->common = add_common_options(*verb);
  verb->callback([o] { run_tune(*o); });
}

}  // namespace lewis
