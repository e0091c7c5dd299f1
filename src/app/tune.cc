// The verb tune: searches, and writes the recipe with what was found.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <numeric>

#include "app/outputs.h"
#include "app/run.h"
#include "app/tuning.h"
#include "base/error.h"
#include "base/printable.h"
#include "io/file.h"

namespace lewis {
namespace {

std::filesystem::path journal_of(const std::filesystem::path& out) {
  return out.string() + ".journal.jsonl";
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

void check_out(const TuneJob& job) {
  if (std::filesystem::is_directory(job.out))
    throw usage_error("-o {}: is a folder, expected a recipe's file", job.out.string());
  if (std::filesystem::exists(job.out) && !std::filesystem::is_regular_file(job.out)) {
    throw usage_error(
        "-o {}: is no regular file, expected a recipe's file: the journal, from which an "
        "interrupted search goes on, is kept beside it",
        job.out.string());
  }
  if (std::filesystem::exists(job.out) && std::filesystem::equivalent(job.out, job.recipe))
    throw usage_error("-o {}: is the recipe itself", job.out.string());
}

TuneReport search(const TunableRecipe& tunable, const TuneJob& job, RunResources& run) {
  const std::filesystem::path file = journal_of(job.out);
  try {
    // Refuses what can be refused before the journal is touched.
    check_tuning(tunable, job.options);
    TuneJournal journal(file, tuning_identity(tunable, job.options));
    return tune(tunable, job.options, &journal, run.threads, run.progress, run.note);
  } catch (const Error& e) {
    if (e.code() != ExitCode::kInterrupted) throw;
    throw Error(e.code(), fmt::format("{}; what is known so far stays in {}, the same command goes "
                                      "on from there",
                                      e.what(), file.string()));
  }
}

// "-0.0210 [-0.0301, -0.0112]"
std::string text_of(const PairedDifference& d) {
  return fmt::format("{:+.4f} [{:+.4f}, {:+.4f}]", d.difference, d.low, d.high);
}

// The recipe with plain values. Comments on top say what they are and what they brought.
std::string tuned_text(const TunableRecipe& tunable, const TuneReport& report) {
  std::string text = "# Found by lewis tune:\n";
  for (size_t i = 0; i < report.values.size(); ++i) {
    const SearchRange& r = tunable.ranges()[i];
    const std::string from = r.options.empty() ? fmt::format("{}, {}", r.low, r.high)
                                               : fmt::format("{}", fmt::join(r.options, ", "));
    text += fmt::format("#   {}: {} of [{}]{}\n", printable(r.path),
                        printable(r.text_of(report.values[i])), printable(from),
                        report.worth[i] ? ", worth " + text_of(*report.worth[i]) : "");
  }
  text += "# On held-out calibration text, against the start: " + text_of(report.gain) + "\n";
  return text + to_yaml(tunable.with(report.values), false);
}

TuneResult result_of(const TunableRecipe& tunable, const TuneJob& job, const TuneReport& r) {
  TuneResult result;
  result.out = job.out;
  for (size_t i = 0; i < r.values.size(); ++i) {
    const SearchRange& s = tunable.ranges()[i];
    result.values.push_back({s.path, s.low, s.high, s.start, r.values[i], s.options});
    if (const auto& worth = r.worth[i]) {
      result.values.back().worth = worth->difference;
      result.values.back().worth_low = worth->low;
      result.values.back().worth_high = worth->high;
    }
  }
  const Recipe recipe = tunable.with(r.values);
  for (size_t e = 0; e < r.base.size(); ++e) {
    result.losses.push_back({recipe.lewis->calibration[e].model, r.base[e].size(), mean(r.base[e]),
                             mean(r.expert[e]), mean(r.start[e]), mean(r.found[e])});
  }
  result.evaluations = r.evaluations;
  result.taken_over = r.taken_over;
  result.start_objective = r.start_objective;
  result.objective = r.objective;
  result.gain = r.gain.difference;
  result.gain_low = r.gain.low;
  result.gain_high = r.gain.high;
  return result;
}

}  // namespace

TuneResult tune(const TuneJob& job, const RunContext& context) {
  if (job.options.evaluations == 0) throw usage_error("--evaluations must be at least 1");
  RunResources run(context);
  const TunableRecipe tunable = TunableRecipe::read(job.recipe, job.unknown_keys);
  check_out(job);
  check_output(job.out);
  check_output(journal_of(job.out));
  const TuneReport report = search(tunable, job, run);
  write_file_durably(job.out, tuned_text(tunable, report));
  TuneResult result = result_of(tunable, job, report);
  result.warnings = *run.notes;
  return result;
}

}  // namespace lewis
