// The verb evaluate: models on tasks, with standard errors and paired differences to a baseline.
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>

#include "app/activation_errors.h"
#include "app/evaluation.h"
#include "app/measures.h"
#include "app/outputs.h"
#include "app/refinement.h"
#include "app/run.h"
#include "app/same_tokens.h"
#include "base/build.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/json.h"
#include "eval/results/journal.h"
#include "eval/results/results.h"
#include "io/hub_cache.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// The path as the job names it, without a '/' at its end; a snapshot of the hub's cache by its id.
std::string model_name(const fs::path& path) {
  if (std::string id = hub_id_of(path); !id.empty()) return id;
  std::string name = path.lexically_normal().string();
  if (name.size() > 1 && name.ends_with('/')) name.pop_back();
  return name;
}

std::vector<fs::path> model_names_of(const EvaluateJob& job) {
  std::vector<fs::path> names;
  for (const fs::path& path : job.models) {
    const std::string id = hub_id_of(path);
    names.push_back(id.empty() ? path : fs::path(id));
  }
  return names;
}

void check_job(const EvaluateJob& job) {
  if (!job.models.empty() && job.tasks.empty() && job.layers.empty())
    throw usage_error("models are given, but no --task to score them on");
  if (job.models.empty() && !job.layers.empty())
    throw usage_error("--layers is given, but no model to compare with the experts");
  if (job.models.empty() && !job.tasks.empty())
    throw usage_error("a --task is given, but no model to score on it");
  if (job.models.empty() && job.other_results.empty())
    throw usage_error("nothing to show: give models with --task, or --results");
  std::map<std::string, fs::path> folders;
  for (const auto& path : job.models) {
    const auto [taken, is_new] = folders.emplace(sanitized_name(model_name(path)), path);
    if (!job.output.empty() && !is_new) {
      throw usage_error("{} and {} would have one folder in --output-path", taken->second.string(),
                        path.string());
    }
  }
  if (job.log_samples && job.output.empty())
    throw usage_error("--log-samples needs --output-path FOLDER to write into");
  if (!job.output.empty()) {
    for (const auto& [folder, _] : folders) check_output(job.output / folder / "results", true);
  }
}

// ---- task kl: the expert ----

bool is_kl(const TaskOptions& task) { return !task.own && task.task == "kl"; }

// The model that task kl compares with; null when no task asks for it.
std::unique_ptr<RunningModel> open_expert(const EvaluateJob& job, std::vector<TaskOptions>& tasks,
                                          RunResources& run) {
  const bool wanted = std::ranges::any_of(tasks, is_kl);
  if (!wanted && !job.expert.empty()) throw usage_error("--kl-to is given, but no task kl");
  if (!wanted || job.expert.empty()) return nullptr;  // without, the task says what it needs
  auto expert = open_named(model_in(job.expert, job.unknown_keys), needs_tokenizer(tasks),
                           job.guidance, run.threads, run.progress, run.note);
  for (TaskOptions& task : tasks) {
    if (is_kl(task)) task.expert = expert->input.fingerprint();
  }
  return expert;
}

void check_expert(const RunningModel& expert, const RunningModel& model, const fs::path& path) {
  if (have_same_tokens(expert, model)) return;
  throw input_error("{}: its tokenizer is not that of the expert, so no token means the same",
                    path.string());
}

// ---- running ----

double now() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<double>(std::chrono::duration_cast<std::chrono::microseconds>(since).count()) /
         1e6;
}

// What all workers of a job must agree on, and what only the whole of it can do.
void check_parts(const EvaluateJob& job) {
  if (!job.part && !job.finish) return;
  const std::string_view option = job.part ? "--part" : "--finish";
  if (job.part && job.finish)
    throw usage_error("--part runs a share of the items, --finish runs none: give one of them");
  if (job.models.empty())
    throw usage_error("{}: no model is given whose items it is about", option);
  if (job.output.empty()) {
    throw usage_error("{} needs --output-path FOLDER, which all workers see: items are kept there",
                      option);
  }
  if (job.no_resume) {
    throw usage_error(
        "{} takes over what other workers have finished, --no-resume does not: to "
        "begin anew, remove {}",
        option, (job.output / "MODEL" / "items").string());
  }
  if (job.part && job.part->index >= job.part->count)
    throw usage_error("part {} of {}: parts are counted from 0", job.part->index, job.part->count);
}

}  // namespace

fs::path folder_of(const EvaluateJob& job, const EvaluatedModel& model) {
  return job.output / sanitized_name(model.results.model);
}

fs::path Evaluation::journals_of(const EvaluatedModel& model) const {
  return folder_of(job, model) / "items";
}

Json Evaluation::about(const EvaluatedModel& model, const PreparedTask& task,
                       const RunningModel& running) {
  return {{"model", running.input.fingerprint()},
          {"tokenizer", running.tokenizer ? running.tokenizer->identity() : ""},
          {"stop_ids", running.stop_ids},
          {"compute", model.results.compute},
          {"task", identity(task)}};
}

TaskModel Evaluation::task_model(const RunningModel& running) const {
  return {*running.transformer, running.tokenizer ? &*running.tokenizer : nullptr, running.stop_ids,
          expert ? expert->transformer.get() : nullptr};
}

ProgressFn Evaluation::progress_of(const EvaluatedModel& model, const PreparedTask& task) const {
  return [this, name = fmt::format("{} {}", model.results.name, task.name)](Progress p) {
    p.what = fmt::format("{}, {}", name, p.what);
    run.progress(p);
  };
}

std::unique_ptr<RunningModel> Evaluation::open(const EvaluatedModel& model) const {
  const bool tokenizer = std::ranges::any_of(
      model.tasks, [](const auto& task) { return task->options.format != "ids"; });
  return open_named(model_in(model.path, job.unknown_keys), tokenizer, job.guidance, run.threads,
                    run.progress, run.note);
}

std::vector<EvaluatedModel> Evaluation::prepare(const std::vector<TaskOptions>& tasks) const {
  const std::vector<std::string> names = short_names(model_names_of(job));
  PreparedTasks prepared;
  std::vector<EvaluatedModel> models;
  for (size_t i = 0; i < job.models.size(); ++i) {
    EvaluatedModel& model = models.emplace_back();
    model.path = job.models[i];
    model.results.model = model_name(model.path);
    model.results.name = names[i];
    model.results.program = fmt::format("lewis {}", version_and_build());
    model.results.compute = compute_type_name(job.guidance.compute);
    // A recipe is opened without its guidance, which changes none of its prompts.
    const auto running = RunningModel::open(model_in(model.path, job.unknown_keys), run.threads,
                                            needs_tokenizer(tasks), job.guidance.compute);
    tell_all(run.note, running->input.notes);
    if (expert) check_expert(*expert, *running, model.path);
    for (size_t t = 0; t < tasks.size(); ++t)
      model.tasks.push_back(prepared.get(t, tasks[t], *running));
    make_names_unique(model.tasks);
    for (const auto& task : model.tasks)
      model.units.push_back(work_units(*task, running->transformer->spec()));
  }
  return models;
}

// The items that --finish finds; it says what is missing when it has looked for all of them.
std::map<size_t, ItemResult> Evaluation::finished(const EvaluatedModel& model,
                                                  const PreparedTask& task,
                                                  const RunningModel& running) {
  auto known = finished_items(journals_of(model), task, about(model, task, running));
  if (known.size() < task.items.size()) {
    missing +=
        fmt::format("{}{} {}: {} of {} items", missing.empty() ? "" : "; ", model.results.name,
                    task.name, task.items.size() - known.size(), task.items.size());
  }
  return known;
}

void Evaluation::run_task_on(EvaluatedModel& model, const PreparedTask& task,
                             const RunningModel& running) {
  std::optional<EvalJournal> journal;
  std::map<size_t, ItemResult> known;
  ItemFn done;
  if (job.finish) {
    known = finished(model, task, running);
    if (!missing.empty()) return;
  } else if (!job.output.empty()) {
    journal.emplace(journals_of(model), task, about(model, task, running), job.no_resume);
    known = journal->finished();
    done = [&](size_t item, const ItemResult& result) { journal->append(item, result); };
  }
  if (!known.empty() && !job.finish) {
    tell({false,
          fmt::format("{} {}: {} of {} items are there from an earlier run (--no-resume: anew)",
                      model.results.name, task.name, known.size(), task.items.size())});
  }
  model.items.push_back(
      run_task(task, task_model(running), std::move(known), done, progress_of(model, task)));
  if (journal) journal->sync();
  model.results.tasks.push_back(summarize(task, model.items.back()));
}

void Evaluation::run_model(EvaluatedModel& model) {
  const auto running = open(model);
  model.results.fingerprint = running->input.fingerprint();
  const double begin = now();
  for (const auto& task : model.tasks) run_task_on(model, *task, *running);
  model.results.seconds = now() - begin;
}

namespace {

// ---- results ----

// The results of other runs, with names that tell them from all before.
void add_other_results(const EvaluateJob& job, std::vector<ModelResults>& models) {
  const auto taken = [&](const std::string& name) {
    return std::ranges::find(models, name, &ModelResults::name) != models.end();
  };
  for (const auto& path : job.other_results) {
    ModelResults other = read_results(path);
    if (!other.program.starts_with("lewis ")) other.name += fmt::format(" ({})", other.program);
    if (taken(other.name)) other.name += " " + path.lexically_normal().string();
    const std::string stem = other.name;
    for (int n = 2; taken(other.name); ++n) other.name = fmt::format("{} ({})", stem, n);
    models.push_back(std::move(other));
  }
}

size_t find_baseline(const std::string& baseline, const std::vector<ModelResults>& models) {
  std::vector<std::string> names;
  for (size_t i = 0; i < models.size(); ++i) {
    if (models[i].name == baseline || models[i].model == baseline) return i;
    names.push_back(models[i].name);
  }
  throw usage_error("--baseline {}: is none of the models: {}", baseline, fmt::join(names, ", "));
}

// Writes OUT/MODEL/results_DATE.json after the samples: where it is, all is.
std::vector<fs::path> write_results(const EvaluateJob& job,
                                    const std::vector<EvaluatedModel>& models) {
  std::vector<fs::path> files;
  for (const EvaluatedModel& model : models) {
    const fs::path folder = folder_of(job, model);
    const std::string date = date_id(model.results.date);
    for (size_t t = 0; job.log_samples && t < model.tasks.size(); ++t) {
      write_file_durably(folder / fmt::format("samples_{}_{}.jsonl", model.tasks[t]->name, date),
                         samples_lines(*model.tasks[t], model.items[t]));
    }
    files.push_back(folder / fmt::format("results_{}.json", date));
    write_file_durably(files.back(), dump_json(results_json(model.results), 2) + "\n");
  }
  return files;
}

std::vector<TaskScore> flat_scores(const std::vector<ModelResults>& models) {
  std::vector<TaskScore> scores;
  for (const ModelResults& model : models) {
    for (const TaskResults& task : model.tasks) {
      for (const MetricResults& m : task.metrics) {
        TaskScore& score = scores.emplace_back(
            TaskScore{model.name, task.name, m.info.name, m.info.filter, m.value, m.standard_error,
                      task.items, m.info.higher_is_better, std::nullopt});
        if (!m.comparison) continue;
        const PairedDifference& d = m.comparison->difference;
        score.difference = ScoreDifference{d.difference, d.low, d.high, m.comparison->p_corrected,
                                           m.comparison->shown()};
      }
    }
  }
  return scores;
}

std::vector<LayerErrors> layer_errors(const EvaluateJob& job, RunResources& run) {
  std::vector<LayerErrors> errors;
  if (job.layers.empty()) return errors;
  const Recipe recipe = read_recipe(job.layers, job.unknown_keys);
  tell_all(run.note, recipe.notes);
  const std::vector<std::string> names = short_names(model_names_of(job));
  for (size_t i = 0; i < job.models.size(); ++i) {
    const RecipeModel model = guided(model_in(job.models[i], job.unknown_keys), job.guidance,
                                     run.threads, run.progress, run.note);
    errors.push_back({names[i], activation_errors(recipe, model, job.guidance, run.threads,
                                                  run.progress, run.note)});
  }
  return errors;
}

}  // namespace

EvaluateResult evaluate(const EvaluateJob& job, const RunContext& context) {
  check_job(job);
  check_parts(job);
  EvaluateResult result;
  const NoticeFn tell = [&](const Notice& notice) {
    result.notices.push_back(notice);
    if (context.notice) context.notice(notice);
  };
  RunContext telling = context;
  telling.notice = tell;
  RunResources run(telling);
  const double date = now();
  std::vector<TaskOptions> tasks;
  for (const std::string& text : job.tasks) tasks.push_back(parse_task(text, job.settings));
  add_sandbox(tasks, job.allow_unsandboxed, tell);
  for (TaskOptions& task : tasks) {
    task.note = run.note;
    task.max_memory = job.guidance.max_memory;
  }
  const auto expert = open_expert(job, tasks, run);
  Evaluation evaluation{job, run, tell, expert.get(), {}};
  // Broken models, data and files are refused before the first hour of work.
  std::vector<EvaluatedModel> models = evaluation.prepare(tasks);
  std::vector<ModelResults> all;
  for (const EvaluatedModel& model : models) all.push_back(model.results);
  add_other_results(job, all);
  if (!job.baseline.empty()) result.baseline = find_baseline(job.baseline, all);
  if (job.part) {
    run_part(evaluation, models, result);
    result.models = std::make_shared<const std::vector<ModelResults>>();
    result.baseline.reset();
    return result;
  }
  for (size_t i = 0; i < models.size(); ++i) {
    evaluation.run_model(models[i]);
    models[i].results.date = date;
    all[i] = models[i].results;
  }
  if (!evaluation.missing.empty()) {
    throw usage_error(
        "not all items are there yet; run the parts first (the same --part again goes on with a "
        "part), or the same command without --finish, which runs them: {}",
        evaluation.missing);
  }
  if (result.baseline) compare_models(all, *result.baseline);
  for (size_t i = 0; i < models.size(); ++i) models[i].results = all[i];
  if (!job.output.empty()) result.files = write_results(job, models);
  result.layers = layer_errors(job, run);
  result.scores = flat_scores(all);
  result.models = std::make_shared<const std::vector<ModelResults>>(std::move(all));
  return result;
}

}  // namespace lewis
