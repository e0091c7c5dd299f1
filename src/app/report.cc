// The verb report: one page about a merge.
#include "app/card_scores.h"
#include "app/findings.h"
#include "app/outputs.h"
#include "app/report_contents.h"
#include "base/error.h"
#include "io/file.h"

namespace lewis {

namespace fs = std::filesystem;

ReportResult report(const ReportJob& job, const RunContext& context) {
  ReportResult result;
  result.report = job.file.empty() ? job.out / "report.html" : job.file;
  if (fs::is_directory(result.report))
    throw usage_error("{}: is a folder, not a file", result.report.string());
  check_output(result.report);
  if (job.card && job.eval.empty())
    throw usage_error("--card writes scores into OUT/README.md: give them with --eval");
  if (!job.figures.empty()) check_output(job.figures / "figure.svg", true);
  RunResources run(context);
  Findings found = look_into(job, run);
  const Report page = report_of(job, found);
  const std::string html = report_html(page);
  if (!job.figures.empty()) {
    fs::create_directories(job.figures);
    for (const Figure& figure : report_figures(page)) {
      result.figures.push_back(job.figures / (figure.name + ".svg"));
      write_file_durably(result.figures.back(), figure.svg);
    }
  }
  if (job.card) write_scores(job.out, page.scores);
  write_file_durably(result.report, html);
  result.bytes = html.size();
  result.missing = page.missing;
  if (found.diagnostics) {
    auto diagnostics = std::make_shared<MergeDiagnostics>(*found.diagnostics);
    for (std::string& model : diagnostics->models) model = found.names->of(model);
    result.diagnostics = std::move(diagnostics);
  }
  return result;
}

}  // namespace lewis
