#include "cli/guidance.h"

#include <cstdlib>
#include <functional>
#include <map>

#include "base/error.h"
#include "base/hash.h"
#include "base/text_file.h"
#include "calibrate/cache.h"
#include "calibrate/calibrate.h"
#include "cli/running_model.h"
#include "cli/tokenizers.h"

namespace lewis {
namespace {

StatisticsKey key_of(const CalibrationJob& job, const RunningModel& model) {
  StatisticsKey key;
  key.model = job.model.model;
  key.model_hash = model.input.fingerprint();
  key.format = format_of(job.text.data, job.text.format);
  if (key.format != "ids" && model.tokenizer) key.tokenizer_hash = model.tokenizer->identity();
  key.data = job.text.data.string();
  key.data_hash = sha256_hex(read_text_file(job.text.data));
  key.prompt_field = job.text.prompt_field;
  key.answer_field = job.text.answer_field;
  key.samples = job.text.samples;
  key.seed = job.text.seed;
  key.max_tokens = job.text.max_tokens;
  key.protocol = job.protocol;
  key.skip_first_token = job.skip_first_token;
  return key;
}

std::vector<std::vector<int32_t>> sequences_of(const CalibrationJob& job,
                                               const RunningModel& model) {
  const std::string format = format_of(job.text.data, job.text.format);
  std::optional<ChatTemplate> chat;
  if (format == "chat") chat = ChatTemplate::load(model.input.files());
  DataOptions options;
  options.file = job.text.data;
  options.format = format;
  options.prompt_field = job.text.prompt_field;
  options.answer_field = job.text.answer_field;
  CalibrationText choice;
  choice.samples = job.text.samples;
  choice.seed = job.text.seed;
  choice.max_tokens = job.text.max_tokens ? job.text.max_tokens : SIZE_MAX;
  choice.reference = job.protocol == Protocol::kReference;
  const Tokenizer* tokenizer = model.tokenizer ? &*model.tokenizer : nullptr;
  std::vector<std::vector<int32_t>> sequences;
  for (TokenSequence& s :
       calibration_sequences(read_data(options, chat ? &*chat : nullptr), tokenizer, choice)) {
    sequences.push_back(std::move(s.ids));
  }
  return sequences;
}

Statistics compute(const CalibrationJob& job, const RunningModel& model,
                   const ProgressFn& progress) {
  CalibrateOptions options;
  options.protocol = job.protocol;
  options.skip_first_token = job.skip_first_token;
  options.progress = [&](Progress p) {
    const std::filesystem::path name(job.model.model);
    p.what = "calibrate " + name.filename().string() + " on " + job.text.data.filename().string();
    if (progress) progress(p);
  };
  return calibrate(*model.transformer, sequences_of(job, model), options);
}

}  // namespace

std::filesystem::path default_cache_folder() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::filesystem::path(value ? value : "");
  };
  if (const auto own = variable("LEWIS_CACHE"); !own.empty()) return own;
  if (const auto xdg = variable("XDG_CACHE_HOME"); !xdg.empty()) return xdg / "lewis";
  if (const auto home = variable("HOME"); !home.empty()) return home / ".cache" / "lewis";
  return std::filesystem::temp_directory_path() / "lewis-cache";
}

CalibrationResult run_calibration(const CalibrationJob& job, const std::filesystem::path& cache,
                                  Threads& threads, const ProgressFn& progress) {
  const bool ids = format_of(job.text.data, job.text.format) == "ids";
  const auto model = RunningModel::open(job.model, threads, !ids);
  const StatisticsKey key = key_of(job, *model);
  const auto work = [&] { return compute(job, *model, progress); };
  if (cache.empty()) {
    CalibrationResult result{work(), {}, false};
    result.statistics.origin = to_origin(key);
    return result;
  }
  CachedStatistics cached = cached_statistics(cache, key, work);
  return {std::move(cached.statistics), std::move(cached.file), cached.reused};
}

std::vector<CalibrationJob> calibration_jobs(const Recipe& recipe) {
  std::vector<CalibrationJob> jobs;
  if (!recipe.lewis) return jobs;
  for (const CalibrationEntry& entry : recipe.lewis->calibration) {
    const Protocol protocol =
        recipe.lewis->protocol == "reference" ? Protocol::kReference : Protocol::kClean;
    for (const size_t model : {recipe.base_index.value(), entry.index}) {
      jobs.push_back({recipe.models.at(model), entry, protocol, recipe.lewis->skip_first_token});
    }
  }
  return jobs;
}

namespace {

ModelPlan plan_entry(const Recipe& recipe, const CalibrationJob& base, const CalibrationJob& expert,
                     const std::filesystem::path& cache, Threads& threads,
                     const ProgressFn& progress) {
  const Statistics on_base = run_calibration(base, cache, threads, progress).statistics;
  const Statistics on_expert = run_calibration(expert, cache, threads, progress).statistics;
  const OpenOptions options = open_options(threads);
  const InputModel base_model = open_input(base.model, options),
                   expert_model = open_input(expert.model, options);
  return plan_model(
      recipe, expert.text.index,
      {*base_model.source, *expert_model.source, on_base, on_expert, threads, progress});
}

using Stage = std::shared_ptr<const Recipe>;

void replace_stages(Recipe& recipe, const std::function<Stage(const Recipe&)>& replace) {
  for (RecipeModel& m : recipe.models) {
    if (m.stage) m.stage = replace(*m.stage);
  }
  for (RecipeModule& module : recipe.modules) {
    Recipe part = *module.recipe;
    replace_stages(part, replace);
    module.recipe = std::make_shared<const Recipe>(std::move(part));
  }
}

}  // namespace

Guidance guide(const Recipe& recipe, const std::filesystem::path& cache, Threads& threads,
               const ProgressFn& progress) {
  std::map<const Recipe*, Stage> guided;
  Guidance guidance{recipe, {}};
  replace_stages(guidance.recipe, [&](const Recipe& stage) {
    auto& result = guided[&stage];
    if (!result)
      result = std::make_shared<const Recipe>(guide(stage, cache, threads, progress).recipe);
    return result;
  });
  if (!recipe.lewis || recipe.lewis->calibration.empty()) return guidance;
  if (!recipe.base_index) {
    throw usage_error("{}: lewis.calibration needs base_model: importance is the distance from it",
                      recipe.file.string());
  }
  const auto jobs = calibration_jobs(guidance.recipe);  // base, expert, base, expert ...
  for (size_t i = 0; i < jobs.size(); i += 2) {
    guidance.plans.push_back(
        plan_entry(guidance.recipe, jobs[i], jobs[i + 1], cache, threads, progress));
  }
  guidance.recipe = apply_plans(guidance.recipe, guidance.plans);
  return guidance;
}

}  // namespace lewis
