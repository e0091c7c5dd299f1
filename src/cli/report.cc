// lewis report OUT: one page about a merge.
#include <fmt/format.h>

#include "cli/verbs.h"

namespace lewis {
namespace {

struct ReportArguments {
  ReportJob job;
  std::filesystem::path recipe;
  bool no_diagnostics = false;
  std::shared_ptr<CommonOptions> common;
};

void run_report(ReportArguments& o) {
  o.job.diagnostics = !o.no_diagnostics;
  if (!o.recipe.empty()) o.job.recipe = open_recipe(o.recipe, UnknownKeys::kNoted);
  ProgressPrinter progress(o.common->quiet);
  const ReportResult result = report(o.job, run_context(*o.common, progress));
  if (o.common->json) {
    write_json_text(json_text(result));
    return;
  }
  const std::string figures =
      result.figures.empty()
          ? ""
          : fmt::format(", {} figures in {}", result.figures.size(), o.job.figures.string());
  write_out("{} ({}){}\n", result.report.string(), human_bytes(result.bytes), figures);
}

}  // namespace

void add_report_verb(CLI::App& app) {
  auto o = std::make_shared<ReportArguments>();
  CLI::App* verb = app.add_subcommand("report", "One page about a merge: OUT/report.html");
  verb->add_option("OUT", o->job.out, "Folder that lewis merged")->required();
  verb->add_option("-o,--out", o->job.file, "Write the page to this file");
  verb->add_option(
          "--eval", o->job.eval,
          "Results of lewis eval --output-path or of lm-evaluation-harness; may be repeated")
      ->allow_extra_args(false);
  verb->add_flag("--card", o->job.card,
                 "Write the scores into OUT/README.md, the model's card, too");
  verb->add_option("--figures", o->job.figures,
                   "Write the figures as SVG files into this folder as well");
  verb->add_option(
      "--recipe", o->recipe,
      "The recipe that was merged: where the folders are that OUT names without paths");
  verb->add_flag("--no-diagnostics", o->no_diagnostics, "Do not read the weights once more");
  o->common = add_common_options(*verb);
  verb->callback([o] { run_report(*o); });
}

}  // namespace lewis
