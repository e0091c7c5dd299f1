// lewis eval MODEL...: tasks, with standard errors and paired differences to a baseline.
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <tuple>

#include "base/build.h"
#include "base/error.h"
#include "cli/activation_errors.h"
#include "cli/eval_table.h"
#include "cli/measures.h"
#include "cli/own_task.h"
#include "cli/refinement.h"
#include "cli/running_model.h"
#include "cli/tokenizers.h"
#include "cli/verbs.h"
#include "eval/results/journal.h"
#include "eval/results/results.h"
#include "eval/tasks.h"
#include "io/file.h"
#include "text/chat_template.h"

namespace lewis {
namespace {

struct Options {
  std::vector<std::filesystem::path> models;
  std::vector<std::string> tasks;                    // NAME or NAME:FILE or NAME:FILE:FORMAT
  std::vector<std::filesystem::path> other_results;  // files of other runs
  std::filesystem::path output;                      // folder; empty: nothing is written
  bool log_samples = false, no_resume = false, allow_unsandboxed = false;
  std::filesystem::path expert;  // of task kl
  std::filesystem::path layers;  // a recipe: activation errors against its experts
  std::string baseline;
  GuidanceOptions guidance;  // of recipes in place of models
  TaskOptions defaults;      // for every task
  std::shared_ptr<CommonOptions> common;
};

// A model of this run, in the order of the command line.
struct EvaluatedModel {
  std::filesystem::path path;
  ModelResults results;
  std::vector<std::shared_ptr<const PreparedTask>> tasks;
  std::vector<std::vector<ItemResult>> items;  // per task
};

TaskOptions parse_task(const std::string& text, const TaskOptions& defaults) {
  TaskOptions task = defaults;
  if (text.ends_with(".yaml") || text.ends_with(".yml")) {
    task.own = std::make_shared<OwnTask>(read_own_task(text));
    task.task = task.own->name;
    task.data.clear();
    return task;
  }
  const size_t first = std::min(text.find(':'), text.size());
  const size_t last = std::max(first, std::min(text.rfind(':'), text.size()));
  task.task = text.substr(0, first);
  if (first < last) {
    task.data = text.substr(first + 1, last - first - 1);
    task.format = text.substr(last + 1);
  } else if (first < text.size()) {
    task.data = text.substr(first + 1);
  }
  return task;
}

// The path as the command names it, without a '/' at its end.
std::string model_name(const std::filesystem::path& path) {
  std::string name = path.lexically_normal().string();
  if (name.size() > 1 && name.ends_with('/')) name.pop_back();
  return name;
}

bool needs_tokenizer(const std::vector<TaskOptions>& tasks) {
  return !std::ranges::all_of(tasks, [](const TaskOptions& t) { return t.format == "ids"; });
}

// Programs of models run in a sandbox. Without python3 their tasks are left out; where a layer of
// the sandbox is missing the user decides.
void add_sandbox(const Options& o, std::vector<TaskOptions>& tasks) {
  if (std::ranges::none_of(tasks, runs_programs)) return;
  const auto sandbox = std::make_shared<const Sandbox>();
  if (!sandbox->cannot_run().empty()) {
    for (const TaskOptions& task : tasks) {
      if (!runs_programs(task)) continue;
      fmt::print(stderr, "task {} is not run, since it runs programs: {}\n", task.task,
                 sandbox->cannot_run());
    }
    std::erase_if(tasks, runs_programs);
    if (tasks.empty()) throw failed_error("no task is left to run");
    return;
  }
  const std::string missing = sandbox->missing_layers();
  if (!missing.empty() && !o.allow_unsandboxed) {
    throw usage_error(
        "programs that a model writes would run without these layers of the sandbox: {}; give "
        "--allow-unsandboxed to run them all the same",
        missing);
  }
  if (!o.common->quiet) {
    fmt::print(stderr, "Programs run with Python {} in a sandbox{}\n", sandbox->python().version,
               missing.empty() ? " with all its layers" : " without: " + missing);
  }
  for (TaskOptions& task : tasks) {
    if (runs_programs(task)) task.sandbox = sandbox;
  }
}

bool is_kl(const TaskOptions& task) { return !task.own && task.task == "kl"; }

// The model that task kl compares with; null when no task asks for it.
std::unique_ptr<RunningModel> open_expert(const Options& o, std::vector<TaskOptions>& tasks,
                                          Threads& threads, const ProgressFn& progress) {
  const bool wanted = std::ranges::any_of(tasks, is_kl);
  if (!wanted && !o.expert.empty()) throw usage_error("--kl-to is given, but no task kl");
  if (!wanted || o.expert.empty()) return nullptr;  // without, the task says what it needs
  auto expert = open_named(o.expert, needs_tokenizer(tasks), o.guidance, threads, progress);
  for (TaskOptions& task : tasks) {
    if (is_kl(task)) task.expert = expert->input.fingerprint();
  }
  return expert;
}

void check_expert(const RunningModel& expert, const RunningModel& model,
                  const std::filesystem::path& path) {
  const auto identity = [](const RunningModel& m) {
    return m.tokenizer ? m.tokenizer->identity() : "";
  };
  if (identity(expert) == identity(model)) return;
  throw input_error("{}: its tokenizer is not that of the expert, so no token means the same",
                    path.string());
}

size_t find_baseline(const std::string& baseline, const std::vector<ModelResults>& models) {
  std::vector<std::string> names;
  for (size_t i = 0; i < models.size(); ++i) {
    if (models[i].name == baseline || models[i].model == baseline) return i;
    names.push_back(models[i].name);
  }
  throw usage_error("--baseline {}: is none of the models: {}", baseline, fmt::join(names, ", "));
}

// Tasks as each tokenizer makes them, shared by all models to which they are the same.
class PreparedTasks {
 public:
  std::shared_ptr<const PreparedTask> get(size_t index, const TaskOptions& options,
                                          const RunningModel& model) {
    const Tokenizer* tokenizer = model.tokenizer ? &*model.tokenizer : nullptr;
    const ModelSpec& spec = model.transformer->spec();
    if (options.format == "chat") {  // a template is the model's own
      TaskOptions own = options;
      const ChatTemplate chat = ChatTemplate::load(model.input.files());
      own.chat = &chat;
      return std::make_shared<PreparedTask>(prepare_task(own, spec, tokenizer));
    }
    auto& task =
        tasks_[{index, tokenizer ? tokenizer->identity() : "", spec.max_positions, spec.vocab}];
    if (!task) task = std::make_shared<PreparedTask>(prepare_task(options, spec, tokenizer));
    return task;
  }

 private:
  std::map<std::tuple<size_t, std::string, int64_t, int64_t>, std::shared_ptr<const PreparedTask>>
      tasks_;
};

// Two tasks of one name would be one in the results: the second gets the name of its data as well.
void make_names_unique(std::vector<std::shared_ptr<const PreparedTask>>& tasks) {
  std::map<std::string, int> used;
  for (auto& task : tasks) {
    std::string name = task->name;
    if (used.contains(name)) name += "_" + task->options.data.stem().string();
    const std::string stem = name;
    for (int n = 2; used.contains(name); ++n) name = fmt::format("{}_{}", stem, n);
    used[name] = 1;
    if (name == task->name) continue;
    PreparedTask renamed = *task;
    renamed.name = name;
    task = std::make_shared<PreparedTask>(std::move(renamed));
  }
}

// All that decides the results of a task's items on a model.
Json journal_key(const PreparedTask& task, const RunningModel& model, const std::string& compute) {
  return {{"model", model.input.fingerprint()},
          {"tokenizer", model.tokenizer ? model.tokenizer->identity() : ""},
          {"stop_ids", model.stop_ids},
          {"compute", compute},
          {"task", identity(task)}};
}

std::filesystem::path folder_of(const Options& o, const EvaluatedModel& model) {
  return o.output / sanitized_name(model.results.model);
}

void run_task_on(const Options& o, EvaluatedModel& model, const PreparedTask& task,
                 const RunningModel& running, const Transformer* expert,
                 const ProgressFn& progress) {
  const TaskModel task_model{*running.transformer,
                             running.tokenizer ? &*running.tokenizer : nullptr, running.stop_ids,
                             expert};
  std::optional<EvalJournal> journal;
  std::map<size_t, ItemResult> known;
  ItemFn done;
  if (!o.output.empty()) {
    journal.emplace(folder_of(o, model) / "items", task,
                    journal_key(task, running, model.results.compute), o.no_resume);
    known = journal->finished();
    done = [&](size_t item, const ItemResult& result) { journal->append(item, result); };
  }
  if (!known.empty() && !o.common->quiet) {
    fmt::print(stderr, "{} {}: {} of {} items are there from an earlier run (--no-resume: anew)\n",
               model.results.name, task.name, known.size(), task.items.size());
  }
  const ProgressFn report = [&](Progress p) {
    p.what = fmt::format("{} {}, {}", model.results.name, task.name, p.what);
    progress(p);
  };
  model.items.push_back(run_task(task, task_model, std::move(known), done, report));
  model.results.tasks.push_back(summarize(task, model.items.back()));
}

double now() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<double>(std::chrono::duration_cast<std::chrono::microseconds>(since).count()) /
         1e6;
}

void run_model(const Options& o, EvaluatedModel& model, const Transformer* expert, Threads& threads,
               const ProgressFn& progress) {
  const bool tokenizer = std::ranges::any_of(
      model.tasks, [](const auto& task) { return task->options.format != "ids"; });
  const auto running = open_named(model.path, tokenizer, o.guidance, threads, progress);
  model.results.fingerprint = running->input.fingerprint();
  const double begin = now();
  for (const auto& task : model.tasks) run_task_on(o, model, *task, *running, expert, progress);
  model.results.seconds = now() - begin;
}

std::vector<EvaluatedModel> prepare_models(const Options& o, const std::vector<TaskOptions>& tasks,
                                           const RunningModel* expert, Threads& threads) {
  const std::vector<std::string> names = short_names(o.models);
  PreparedTasks prepared;
  std::vector<EvaluatedModel> models;
  for (size_t i = 0; i < o.models.size(); ++i) {
    EvaluatedModel& model = models.emplace_back();
    model.path = o.models[i];
    model.results.model = model_name(model.path);
    model.results.name = names[i];
    model.results.program = fmt::format("lewis {}", version_and_build());
    model.results.compute = compute_type_name(o.guidance.compute);
    // A recipe that is still without its guidance: what it is asked is the same.
    const auto running = RunningModel::open(model_in(model.path), threads, needs_tokenizer(tasks),
                                            o.guidance.compute);
    if (expert) check_expert(*expert, *running, model.path);
    for (size_t t = 0; t < tasks.size(); ++t)
      model.tasks.push_back(prepared.get(t, tasks[t], *running));
    make_names_unique(model.tasks);
  }
  return models;
}

// The results of other runs, with names that tell them from all before.
void add_other_results(const Options& o, std::vector<ModelResults>& models) {
  const auto taken = [&](const std::string& name) {
    return std::ranges::find(models, name, &ModelResults::name) != models.end();
  };
  for (const auto& path : o.other_results) {
    ModelResults other = read_results(path);
    if (!other.program.starts_with("lewis ")) other.name += fmt::format(" ({})", other.program);
    if (taken(other.name)) other.name += " " + path.lexically_normal().string();
    const std::string stem = other.name;
    for (int n = 2; taken(other.name); ++n) other.name = fmt::format("{} ({})", stem, n);
    models.push_back(std::move(other));
  }
}

// OUT/MODEL/results_DATE.json, and the samples before it: where it is, all is.
std::vector<std::filesystem::path> write_results(const Options& o,
                                                 const std::vector<EvaluatedModel>& models) {
  std::vector<std::filesystem::path> files;
  for (const EvaluatedModel& model : models) {
    const std::filesystem::path folder = folder_of(o, model);
    const std::string date = date_id(model.results.date);
    for (size_t t = 0; o.log_samples && t < model.tasks.size(); ++t) {
      write_file_durably(folder / fmt::format("samples_{}_{}.jsonl", model.tasks[t]->name, date),
                         samples_lines(*model.tasks[t], model.items[t]));
    }
    files.push_back(folder / fmt::format("results_{}.json", date));
    write_file_durably(files.back(), results_json(model.results).dump(2) + "\n");
  }
  return files;
}

void check_options(const Options& o) {
  if (!o.models.empty() && o.tasks.empty() && o.layers.empty())
    throw usage_error("models are given, but no --task to score them on");
  if (o.models.empty() && !o.layers.empty())
    throw usage_error("--layers is given, but no model to compare with the experts");
  if (o.models.empty() && !o.tasks.empty())
    throw usage_error("a --task is given, but no model to score on it");
  if (o.models.empty() && o.other_results.empty())
    throw usage_error("nothing to show: give models with --task, or --results");
  std::map<std::string, std::filesystem::path> folders;
  for (const auto& path : o.models) {
    const auto [taken, is_new] = folders.emplace(sanitized_name(model_name(path)), path);
    if (!o.output.empty() && !is_new) {
      throw usage_error("{} and {} would have one folder in --output-path", taken->second.string(),
                        path.string());
    }
  }
  if (o.log_samples && o.output.empty())
    throw usage_error("--log-samples needs --output-path FOLDER to write into");
}

// Of one model, against the experts of the recipe that --layers names.
struct LayerErrors {
  std::string model;
  std::vector<ModuleValues> experts;
};

std::vector<LayerErrors> layer_errors(const Options& o, Threads& threads,
                                      const ProgressFn& progress) {
  std::vector<LayerErrors> errors;
  if (o.layers.empty()) return errors;
  const Recipe recipe = read_recipe(o.layers);
  const std::vector<std::string> names = short_names(o.models);
  for (size_t i = 0; i < o.models.size(); ++i) {
    const RecipeModel model = guided(model_in(o.models[i]), o.guidance, threads, progress);
    errors.push_back({names[i], activation_errors(recipe, model, o.guidance, threads, progress)});
  }
  return errors;
}

void print_layers(const LayerErrors& errors, const Terminal& terminal) {
  HeatMaps measure = activation_error_measure(titled(errors.experts));
  measure.title += " of " + errors.model;
  fmt::print("\n{}", terminal_maps({measure}, terminal));
}

void print(const Options& o, const std::vector<ModelResults>& all, std::optional<size_t> baseline,
           const std::vector<LayerErrors>& layers,
           const std::vector<std::filesystem::path>& files) {
  if (o.common->json) {
    Json json = {{"models", Json::array()}};
    for (const ModelResults& model : all) json["models"].push_back(results_json(model));
    for (const LayerErrors& l : layers) json["activation_errors"][l.model] = to_json(l.experts);
    fmt::print("{}\n", json.dump(2));
    return;
  }
  const Terminal terminal = Terminal::of(STDOUT_FILENO);
  if (!o.tasks.empty() || !o.other_results.empty())
    fmt::print("{}", results_text(all, baseline, terminal));
  for (const LayerErrors& l : layers) print_layers(l, terminal);
  for (const auto& file : files) fmt::print("Written: {}\n", file.string());
}

void run_eval(const Options& o) {
  check_options(o);
  Threads threads(o.common->threads);
  ProgressPrinter progress(o.common->quiet);
  const double date = now();
  std::vector<TaskOptions> tasks;
  for (const std::string& text : o.tasks) tasks.push_back(parse_task(text, o.defaults));
  add_sandbox(o, tasks);
  const auto expert = open_expert(o, tasks, threads, progress);
  // Broken models, data and files are refused before the first hour of work.
  std::vector<EvaluatedModel> models = prepare_models(o, tasks, expert.get(), threads);
  std::vector<ModelResults> all;
  for (const EvaluatedModel& model : models) all.push_back(model.results);
  add_other_results(o, all);
  std::optional<size_t> baseline;
  if (!o.baseline.empty()) baseline = find_baseline(o.baseline, all);
  for (size_t i = 0; i < models.size(); ++i) {
    run_model(o, models[i], expert ? expert->transformer.get() : nullptr, threads,
              progress.callback());
    models[i].results.date = date;
    all[i] = models[i].results;
  }
  if (baseline) compare_models(all, *baseline);
  for (size_t i = 0; i < models.size(); ++i) models[i].results = all[i];
  std::vector<std::filesystem::path> files;
  if (!o.output.empty()) files = write_results(o, models);
  print(o, all, baseline, layer_errors(o, threads, progress.callback()), files);
}

}  // namespace

void add_eval_verb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "eval", "Score models on tasks, with standard errors and paired differences");
  verb->add_option("MODEL", o->models,
                   "Model folders, or recipes, which are merged while they are read");
  verb->add_option("--task", o->tasks,
                   "loss, perplexity, kl, gsm8k, gsm8k_cot, mbpp, humaneval or ifeval; TASK:FILE "
                   "or TASK:FILE:FORMAT; or FILE.yaml, a task of your own; may be repeated")
      ->allow_extra_args(false);
  verb->add_option("--data", o->defaults.data, "Data of tasks that name none");
  verb->add_option("--data-dir", o->defaults.data_folder,
                   "Folder with the data of known tasks: gsm8k_test.jsonl, gsm8k_train.jsonl, "
                   "mbpp.jsonl, humaneval.jsonl, ifeval_input_data.jsonl (else: Hugging Face's "
                   "cache)");
  verb->add_option("--format", o->defaults.format,
                   "Format of data: gsm8k, mbpp, ifeval, chat, jsonl, text, ids");
  verb->add_option("--prompt-field", o->defaults.prompt_field,
                   "Field of the prompt (format jsonl)");
  verb->add_option("--answer-field", o->defaults.answer_field,
                   "Field of the answer (format jsonl)");
  verb->add_option("--limit", o->defaults.limit, "First items only (0: all)");
  verb->add_option("--shots,--num_fewshot", o->defaults.shots,
                   "Worked examples before each question (default: the task's own)");
  verb->add_option("--shots-data", o->defaults.shots_data,
                   "Where the examples come from (gsm8k's training file)");
  verb->add_option("--max-new-tokens", o->defaults.max_new_tokens, "Longest generation");
  verb->add_option("--temperature", o->defaults.temperature,
                   "Of sampled generation (default: 0, greedy)");
  verb->add_option("--top-p", o->defaults.top_p,
                   "Sample among the most likely tokens that have this probability together");
  verb->add_option("--seed", o->defaults.seed, "Of sampled generation");
  verb->add_option("--window", o->defaults.window,
                   "perplexity: tokens a window (default: the model's positions, 1024 at most)");
  verb->add_option("--stride", o->defaults.stride,
                   "perplexity: tokens from window to window (default: half a window)");
  verb->add_option("--kl-to", o->expert, "kl: the model whose distributions are the reference");
  verb->add_option("--layers", o->layers,
                   "A recipe with lewis.calibration: show, layer by layer, how far each model is "
                   "from its experts on held-out calibration text");
  verb->add_flag("--allow-unsandboxed", o->allow_unsandboxed,
                 "Run programs of models even where a layer of the sandbox is missing");
  verb->add_option("--baseline", o->baseline,
                   "One of the models or results: the others are compared with it item by item");
  verb->add_option(
      "--output-path,--output_path", o->output,
      "Folder for the results, in lm-evaluation-harness's shape: one folder a model; a "
      "run that is stopped goes on there when it is given again");
  verb->add_flag("--log-samples,--log_samples", o->log_samples,
                 "Write every item with prompt, answer and scores beside the results");
  verb->add_flag("--no-resume", o->no_resume,
                 "Run all items, whatever an earlier run has finished");
  verb->add_option("--results", o->other_results,
                   "Results of another run, of lewis or of lm-evaluation-harness (file or folder), "
                   "to show beside; may be repeated")
      ->allow_extra_args(false);
  add_compute_option(*verb, o->guidance.compute);
  o->common = add_common_options(*verb);
  verb->callback([o] { run_eval(*o); });
}

}  // namespace lewis
