// lewis calibrate MODEL --data FILE -o FILE (MODEL: a folder, or a recipe that is merged on
// demand), lewis calibrate RECIPE: only the statistics.
#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "calibrate/imatrix.h"
#include "cli/guidance.h"
#include "cli/running_model.h"
#include "cli/verbs.h"

namespace lewis {
namespace {

struct Options {
  std::filesystem::path model_or_recipe, data, out;
  GuidanceOptions guidance;
  std::string max_memory;
  std::string format, prompt_field, answer_field, protocol = "clean";
  uint64_t samples = 0, seed = 42, max_tokens = 0;
  bool skip_first_token = false;
  std::shared_ptr<CommonOptions> common;
};

Json summary(const CalibrationResult& result, const std::filesystem::path& file) {
  Json origin = Json::object();
  for (const auto& [key, value] : result.statistics.origin) origin[key] = value;
  return {{"file", file.string()},
          {"tokens", result.statistics.tokens},
          {"sequences", result.statistics.sequences},
          {"modules", result.statistics.sum_squares.size()},
          {"reused", result.reused},
          {"origin", origin}};
}

void print_result(const CalibrationResult& result, const std::filesystem::path& model,
                  const std::filesystem::path& file) {
  fmt::print("{}: {} tokens in {} sequences, {} linear layers in {} -> {}{}\n", model.string(),
             with_commas(result.statistics.tokens), with_commas(result.statistics.sequences),
             result.statistics.sum_squares.size(), result.statistics.origin.at("compute"),
             file.string(), result.reused ? " (from the cache)" : "");
}

void calibrate_recipe(const Options& o, Threads& threads, const ProgressFn& progress) {
  const Recipe recipe = read_recipe(o.model_or_recipe);
  const auto jobs = calibration_jobs(recipe);
  if (jobs.empty()) {
    throw usage_error("{}: lewis.calibration names no data, so there is nothing to calibrate",
                      o.model_or_recipe.string());
  }
  Json all = Json::array();
  for (const CalibrationJob& job : jobs) {
    const CalibrationResult result = run_calibration(job, o.guidance, threads, progress);
    if (o.common->json) {
      all.push_back(summary(result, result.file));
    } else {
      print_result(result, job.model.model, result.file);
    }
  }
  if (o.common->json) fmt::print("{}\n", Json{{"statistics", all}}.dump(2));
}

// The ending says which format: an importance matrix of llama.cpp, or lewis's own.
bool is_imatrix_name(const std::filesystem::path& file) { return file.extension() == ".gguf"; }

void calibrate_model(const Options& o, Threads& threads, const ProgressFn& progress) {
  const RecipeModel named = model_in(o.model_or_recipe);
  if (named.stage && refines(*named.stage)) {
    throw usage_error("{}: calibrate does not refine; merge the recipe and calibrate the result",
                      o.model_or_recipe.string());
  }
  if (o.data.empty()) throw usage_error("--data is needed: the text that shows the model's skill");
  CalibrationJob job;
  job.model = guided(named, o.guidance, threads, progress);
  job.protocol = value_of<Protocol>(o.protocol, "--protocol");
  if (is_imatrix_name(o.out) && job.protocol != Protocol::kClean)
    throw usage_error("-o {}: an importance matrix needs the protocol clean", o.out.string());
  job.skip_first_token = o.skip_first_token;
  job.text.data = o.data;
  if (!o.format.empty()) job.text.format = value_of<DataFormat>(o.format, "--format");
  job.text.format = format_of(o.data, job.text.format);
  job.text.prompt_field = o.prompt_field;
  job.text.answer_field = o.answer_field;
  job.text.samples = o.samples;
  job.text.seed = o.seed;
  // Token ids are fed as they are; text is cut where the paper cuts it.
  job.text.max_tokens = o.max_tokens ? o.max_tokens : job.text.format == DataFormat::kIds ? 0 : 512;
  GuidanceOptions guidance = o.guidance;
  if (!o.out.empty()) guidance.cache.clear();
  const CalibrationResult result = run_calibration(job, guidance, threads, progress);
  const std::filesystem::path file = o.out.empty() ? result.file : o.out;
  if (!o.out.empty())
    (is_imatrix_name(o.out) ? write_imatrix : write_statistics)(o.out, result.statistics);
  if (o.common->json) {
    fmt::print("{}\n", summary(result, file).dump(2));
  } else {
    print_result(result, o.model_or_recipe, file);
  }
}

}  // namespace

void add_calibrate_verb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      app.add_subcommand("calibrate", "Measure what calibration text does to a model's layers");
  verb->add_option("MODEL|RECIPE", o->model_or_recipe,
                   "Model folder; a recipe: its models on the texts of its lewis: section, or with "
                   "--data the merged model, which is not written")
      ->required();
  verb->add_option("--data", o->data, "Calibration text");
  verb->add_option("--format", o->format, "gsm8k, mbpp, chat, jsonl, text or ids");
  verb->add_option("--prompt-field", o->prompt_field, "Field of the prompt (format jsonl)");
  verb->add_option("--answer-field", o->answer_field, "Field of the answer (format jsonl)");
  verb->add_option("-o,--out", o->out,
                   "Statistics file, as llama.cpp's importance matrix if it ends in .gguf; without "
                   "it the result goes to the cache");
  verb->add_option("--cache", o->guidance.cache, "Folder of the cache");
  verb->add_option("--max-memory", o->max_memory,
                   "Bytes of memory (K, M, B: decimal): kept, or refused before any work");
  add_compute_option(*verb, o->guidance.compute);
  verb->add_option("--protocol", o->protocol, "clean (default) or reference (the paper's)");
  verb->add_option("--samples", o->samples, "Samples to take (0: all)");
  verb->add_option("--seed", o->seed, "Seed of the choice of samples");
  verb->add_option("--max-tokens", o->max_tokens,
                   "Longest sequence (0: 512 for text, no limit for ids)");
  verb->add_flag("--skip-first-token", o->skip_first_token,
                 "Do not count the first token of a sequence");
  o->common = add_common_options(*verb);
  verb->callback([o] {
    Threads threads(o->common->threads);
    ProgressPrinter progress(o->common->quiet);
    if (!o->max_memory.empty()) o->guidance.max_memory = parse_bytes(o->max_memory, "--max-memory");
    if (std::filesystem::is_regular_file(o->model_or_recipe) && o->data.empty()) {
      calibrate_recipe(*o, threads, progress.callback());
    } else {
      calibrate_model(*o, threads, progress.callback());
    }
  });
}

}  // namespace lewis
