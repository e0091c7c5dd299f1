// The verb calibrate: statistics of one model on one text, or of a recipe's models on its texts.
#include "app/calibration_parts.h"
#include "app/guidance.h"
#include "app/outputs.h"
#include "app/run.h"
#include "app/running_model.h"
#include "base/error.h"
#include "calibrate/imatrix.h"
#include "io/hub_cache.h"

namespace lewis {
namespace {

CalibratedText text_result(const CalibrationResult& result, const std::string& model,
                           const std::filesystem::path& file) {
  const Statistics& s = result.statistics;
  return {.model = model,
          .file = file,
          .tokens = s.tokens,
          .sequences = s.sequences,
          .linear_layers = s.sum_squares.size(),
          .reused = result.reused,
          .origin = s.origin};
}

void add(CalibrateResult& all, CalibratedText text, const CalibrateJob& job) {
  if (job.finished) job.finished(text);
  all.texts.push_back(std::move(text));
}

CalibrateResult calibrate_in_parts(const Recipe& recipe, const CalibrateJob& job,
                                   RunResources& run) {
  const PartsReport report = calibrate_part(recipe, job.part, job.guidance, run);
  CalibrateResult all;
  all.pieces = report.pieces;
  all.pieces_measured = report.measured;
  all.pieces_left = report.left;
  for (const CompleteText& text : report.complete)
    add(all, text_result(text.result, text.model, text.result.file), job);
  return all;
}

CalibrateResult calibrate_recipe(const CalibrateJob& job, RunResources& run) {
  const Recipe recipe = read_recipe(job.model, job.unknown_keys);
  tell_all(run.note, recipe.notes);
  const auto jobs = calibration_jobs(recipe);
  if (jobs.empty()) {
    throw usage_error("{}: lewis.calibration names no data, so there is nothing to calibrate",
                      job.model.string());
  }
  if (job.part || job.finish) return calibrate_in_parts(recipe, job, run);
  CalibrateResult all;
  for (const CalibrationJob& one : jobs) {
    const auto result = run_calibration(one, job.guidance, run.threads, run.progress);
    tell_all(run.note, result.notes);
    add(all, text_result(result, one.model.model, result.file), job);
  }
  return all;
}

// The file's ending says which format: an importance matrix of llama.cpp, or lewis's own.
bool is_imatrix_name(const std::filesystem::path& file) { return file.extension() == ".gguf"; }

CalibrationEntry text_of_job(const CalibrateJob& job) {
  CalibrationEntry text;
  text.data = resolved_data(job.data);
  if (!job.format.empty()) text.format = value_of<DataFormat>(job.format, "--format");
  if (!text.format && !job.answer_field.empty()) text.format = DataFormat::kJsonl;
  text.format = format_of(text.data, text.format);
  text.prompt_field = job.prompt_field;
  text.answer_field = job.answer_field;
  text.samples = job.samples;
  text.seed = job.seed;
  // Token ids are fed as they are; text is cut where the paper cuts it.
  text.max_tokens = job.max_tokens ? job.max_tokens : text.format == DataFormat::kIds ? 0 : 512;
  return text;
}

CalibrateResult calibrate_model(const CalibrateJob& job, RunResources& run) {
  if (job.part || job.finish) {
    throw usage_error(
        "--part and --finish are for a recipe's own texts, whose statistics go to the cache: "
        "expected a recipe, without --data");
  }
  const RecipeModel named = model_in(job.model, job.unknown_keys);
  if (named.stage && refines(*named.stage)) {
    throw usage_error("{}: calibrate does not refine; merge the recipe and calibrate the result",
                      job.model.string());
  }
  if (job.data.empty())
    throw usage_error("--data is needed: the text that shows the model's skill");
  CalibrationJob one;
  one.model = guided(named, job.guidance, run.threads, run.progress, run.note);
  one.protocol = job.reference_protocol ? Protocol::kReference : Protocol::kClean;
  if (is_imatrix_name(job.out) && job.reference_protocol)
    throw usage_error("-o {}: an importance matrix needs the protocol clean", job.out.string());
  one.skip_first = job.skip_first_token ? 1 : 0;
  one.text = text_of_job(job);
  GuidanceOptions guidance = job.guidance;
  if (!job.out.empty()) guidance.cache.clear();
  const auto result = run_calibration(one, guidance, run.threads, run.progress);
  tell_all(run.note, result.notes);
  if (!job.out.empty())
    (is_imatrix_name(job.out) ? write_imatrix : write_statistics)(job.out, result.statistics);
  CalibrateResult all;
  add(all, text_result(result, job.model.string(), job.out.empty() ? result.file : job.out), job);
  return all;
}

}  // namespace

CalibrateResult calibrate(const CalibrateJob& job, const RunContext& context) {
  if (!job.out.empty()) check_output(job.out);
  RunResources run(context);
  if (std::filesystem::is_regular_file(job.model) && !is_gguf_path(job.model) && job.data.empty())
    return calibrate_recipe(job, run);
  return calibrate_model(job, run);
}

}  // namespace lewis
