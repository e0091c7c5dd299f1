// lewis eval MODEL...: tasks, with standard errors and paired differences to a baseline.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <tuple>

#include "base/error.h"
#include "cli/guidance.h"
#include "cli/running_model.h"
#include "cli/table.h"
#include "cli/tokenizers.h"
#include "cli/verbs.h"
#include "cli/version.h"
#include "eval/tasks.h"
#include "text/chat_template.h"

namespace lewis {
namespace {

constexpr uint64_t kKeptOfRecipe = 256 << 20;  // merged tensors that stay in memory

struct Options {
  std::vector<std::filesystem::path> models;
  std::vector<std::string> tasks;  // NAME or NAME:FILE or NAME:FILE:FORMAT
  std::filesystem::path json_out, samples_folder;
  std::string baseline;
  std::optional<ComputeType> compute = ComputeType::kF32;  // none: the faster one
  TaskOptions defaults;                                    // for every task
  std::shared_ptr<CommonOptions> common;
};

struct Metric {
  MetricInfo info;
  std::vector<ItemScore> scores;
  Mean summary;
};

struct TaskResult {
  std::shared_ptr<const PreparedTask> task;
  std::vector<ItemResult> items;
  std::vector<Metric> metrics;
};

// One model's results, in the order of the tasks.
struct ModelResults {
  std::string name;
  std::filesystem::path folder;
  std::string fingerprint;
  std::vector<TaskResult> tasks;
};

TaskOptions parse_task(const std::string& text, const TaskOptions& defaults) {
  TaskOptions task = defaults;
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

// The shortest ends of the paths that tell the models apart ("math", or "a/math" and "b/math").
std::vector<std::string> short_names(const std::vector<std::filesystem::path>& paths) {
  std::vector<std::string> names;
  for (const auto& path : paths) {
    const std::string normal = path.lexically_normal().string();
    const std::string whole = normal.ends_with('/') ? normal.substr(0, normal.size() - 1) : normal;
    size_t begin = whole.rfind('/');
    const auto ambiguous = [&](const std::string& end) {
      return std::count_if(paths.begin(), paths.end(), [&](const auto& other) {
               std::string o = other.lexically_normal().string();
               if (o.ends_with('/')) o.pop_back();
               return o == end || (o.ends_with(end) && o[o.size() - end.size() - 1] == '/');
             }) > 1;
    };
    while (begin != std::string::npos && begin > 0 && ambiguous(whole.substr(begin + 1)))
      begin = whole.rfind('/', begin - 1);
    names.push_back(begin == std::string::npos ? whole : whole.substr(begin + 1));
  }
  return names;
}

size_t find_baseline(const Options& o, const std::vector<ModelResults>& results) {
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i].name == o.baseline || results[i].folder == std::filesystem::path(o.baseline))
      return i;
  }
  throw usage_error("--baseline {}: is none of the models given", o.baseline);
}

bool is_share(const Metric& m) { return m.info.kind == MetricInfo::Kind::kShare; }
bool is_exponential(const Metric& m) { return m.info.kind == MetricInfo::Kind::kExpMean; }

double headline(const Metric& m) {
  return is_exponential(m) ? std::exp(m.summary.mean) : m.summary.mean;
}

// By the delta method: the headline is the exponential of a mean.
double headline_error(const Metric& m) {
  return m.summary.standard_error * (is_exponential(m) ? headline(m) : 1);
}

std::string value_cell(const Metric& m) {
  if (is_share(m))
    return fmt::format("{:.1f} % ± {:.1f}", 100 * m.summary.mean, 100 * m.summary.standard_error);
  if (is_exponential(m)) {
    const int digits =
        std::clamp(3 - static_cast<int>(std::log10(std::max(1.0, headline(m)))), 0, 3);
    return fmt::format("{:.{}f} ± {:.{}f}", headline(m), digits, headline_error(m), digits);
  }
  return fmt::format("{:.4f} ± {:.4f}", m.summary.mean, m.summary.standard_error);
}

// "-0.0110 [-0.0123, -0.0098] ✓": marked only where a difference is shown.
std::string difference_cell(const Metric& metric, const PairedDifference& d, bool color) {
  const double unit = is_share(metric) ? 100 : 1;
  const int digits = is_share(metric) ? 1 : 4;
  const std::string text =
      fmt::format("{}{:+.{}f} [{:+.{}f}, {:+.{}f}]", is_exponential(metric) ? "log " : "",
                  unit * d.difference, digits, unit * d.low, digits, unit * d.high, digits);
  if (!(d.low > 0 || d.high < 0)) return styled(text + "  ", "2", color);
  const bool better = (d.difference > 0) == metric.info.higher_is_better;
  return styled(text + (better ? " ✓" : " ✗"), better ? "32" : "31", color);
}

struct MetricIndex {
  size_t task, metric;
};

const Metric& metric_of(const ModelResults& model, MetricIndex i) {
  return model.tasks[i.task].metrics[i.metric];
}

// All metrics but those that say of every item of every model what the one before says.
std::vector<MetricIndex> telling_metrics(const std::vector<ModelResults>& results) {
  std::vector<MetricIndex> telling;
  for (size_t t = 0; t < results[0].tasks.size(); ++t) {
    for (size_t m = 0; m < results[0].tasks[t].metrics.size(); ++m) {
      const auto repeats = [&](const ModelResults& r) {
        return m > 0 && r.tasks[t].metrics[m].scores == r.tasks[t].metrics[m - 1].scores;
      };
      if (!std::all_of(results.begin(), results.end(), repeats)) telling.push_back({t, m});
    }
  }
  return telling;
}

// A line of scores for each model and, below it, how it differs from the baseline.
Table results_table(const std::vector<ModelResults>& results, std::optional<size_t> baseline,
                    bool color) {
  const std::vector<MetricIndex> metrics = telling_metrics(results);
  std::vector<Table::Column> columns = {{"", Align::kLeft}};
  std::vector<std::string> names = {""}, directions = {"model"};
  for (const MetricIndex i : metrics) {
    const Metric& m = metric_of(results[0], i);
    columns.push_back({results[0].tasks[i.task].task->options.label, Align::kLeft});
    names.push_back(styled(m.info.key(), "2", color));
    directions.push_back(styled(fmt::format("{} items, {} is better", with_commas(m.scores.size()),
                                            m.info.higher_is_better ? "more" : "less"),
                                "2", color));
  }
  Table table(columns);
  table.add(names);
  table.add(directions);
  table.add_line();
  for (size_t r = 0; r < results.size(); ++r) {
    std::vector<std::string> scores = {styled(results[r].name, "1", color)}, differences = {""};
    for (const MetricIndex i : metrics) {
      const Metric& m = metric_of(results[r], i);
      scores.push_back(value_cell(m));
      if (!baseline || r == *baseline) continue;
      differences.push_back(difference_cell(
          m, paired_difference(metric_of(results[*baseline], i).scores, m.scores), color));
    }
    table.add(std::move(scores));
    if (differences.size() > 1) table.add(std::move(differences));
  }
  return table;
}

void print_results(const std::vector<ModelResults>& results, std::optional<size_t> baseline,
                   ComputeType type) {
  const bool color = Terminal::of(STDOUT_FILENO).color;
  fmt::print("{}\nScores ± standard error; linear layers in {}.",
             results_table(results, baseline, color).text(color), compute_type_name(type));
  if (baseline) {
    fmt::print(
        " Below them the paired difference to {} with its 95 % interval: ✓ better, ✗ worse;\n"
        "unmarked: the interval covers zero, no difference is shown.",
        results[*baseline].name);
  }
  fmt::print("\n");
}

Json metric_json(const Metric& m, const Metric* reference) {
  Json json = {{"value", headline(m)},
               {"stderr", headline_error(m)},
               {"items", m.summary.items},
               {"higher_is_better", m.info.higher_is_better}};
  if (is_exponential(m)) json["mean"] = m.summary.mean;
  if (reference) {
    const PairedDifference d = paired_difference(reference->scores, m.scores);
    json["difference"] = {{"value", d.difference},
                          {"low", d.low},
                          {"high", d.high},
                          {"shown", d.low > 0 || d.high < 0}};
  }
  Json values = Json::array();
  for (const ItemScore& s : m.scores) values.push_back(s.value);
  json["values"] = values;
  return json;
}

Json results_json(const std::vector<ModelResults>& results, std::optional<size_t> baseline,
                  ComputeType type) {
  Json models = Json::array();
  for (size_t i = 0; i < results.size(); ++i) {
    Json tasks = Json::array();
    for (size_t t = 0; t < results[i].tasks.size(); ++t) {
      const TaskResult& task = results[i].tasks[t];
      Json metrics = Json::object();
      for (size_t m = 0; m < task.metrics.size(); ++m) {
        const Metric* reference =
            baseline && i != *baseline ? &results[*baseline].tasks[t].metrics[m] : nullptr;
        metrics[task.metrics[m].info.key()] = metric_json(task.metrics[m], reference);
      }
      tasks.push_back({{"task", task.task->options.task},
                       {"label", task.task->options.label},
                       {"data", task.task->options.data.string()},
                       {"metrics", metrics}});
    }
    models.push_back({{"name", results[i].name},
                      {"folder", results[i].folder.string()},
                      {"fingerprint", results[i].fingerprint},
                      {"tasks", tasks}});
  }
  Json json = {
      {"lewis_version", kVersion}, {"compute", compute_type_name(type)}, {"models", models}};
  if (baseline) json["baseline"] = results[*baseline].name;
  return json;
}

void write_text(const std::filesystem::path& file, const std::string& text) {
  std::ofstream out(file, std::ios::binary);
  out << text;
  out.close();
  if (!out) throw resource_error("{}: cannot be written", file.string());
}

void write_samples(const Options& o, const std::vector<ModelResults>& results) {
  std::filesystem::create_directories(o.samples_folder);
  for (const ModelResults& model : results) {
    for (size_t t = 0; t < model.tasks.size(); ++t) {
      std::string name = fmt::format("{}_{}_{}", model.name, t, model.tasks[t].task->name);
      std::replace(name.begin(), name.end(), '/', '_');
      std::string lines;
      const TaskResult& result = model.tasks[t];
      for (size_t i = 0; i < result.items.size(); ++i) {
        const ItemResult& item = result.items[i];
        lines += Json{{"index", i},
                      {"where", result.task->items[i].where},
                      {"response", item.response},
                      {"filtered", item.filtered}}
                     .dump() +
                 "\n";
      }
      write_text(o.samples_folder / ("samples_" + name + ".jsonl"), lines);
    }
  }
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

bool needs_tokenizer(const std::vector<TaskOptions>& tasks) {
  return !std::ranges::all_of(tasks, [](const TaskOptions& t) { return t.format == "ids"; });
}

void run_model(ModelResults& result, const RunningModel& model, const ProgressFn& progress) {
  result.fingerprint = model.input.fingerprint();
  const TaskModel task_model{*model.transformer, model.tokenizer ? &*model.tokenizer : nullptr,
                             model.stop_ids};
  for (TaskResult& task : result.tasks) {
    const ProgressFn report = [&](Progress p) {
      p.what = result.name + " " + p.what;
      progress(p);
    };
    task.items = run_task(*task.task, task_model, {}, {}, report);
    for (size_t m = 0; m < task.task->metrics.size(); ++m) {
      std::vector<ItemScore> scores = scores_of(task.items, m);
      const Mean summary = mean_of(scores);
      task.metrics.push_back({task.task->metrics[m], std::move(scores), summary});
    }
  }
}

void run_eval(const Options& o) {
  Threads threads(o.common->threads);
  ProgressPrinter progress(o.common->quiet);
  std::vector<TaskOptions> tasks;
  for (const std::string& text : o.tasks) tasks.push_back(parse_task(text, o.defaults));
  const std::vector<std::string> names = short_names(o.models);
  std::vector<ModelResults> results;
  for (size_t i = 0; i < o.models.size(); ++i) results.push_back({names[i], o.models[i], "", {}});
  std::optional<size_t> baseline;
  if (!o.baseline.empty()) baseline = find_baseline(o, results);
  const ComputeType type = o.compute ? *o.compute : faster_compute_type();
  // Broken models and data are refused before the first hour of work on a good one.
  PreparedTasks prepared;
  for (ModelResults& result : results) {
    // A recipe that is still without its guidance: what it asks is the same.
    const auto model =
        RunningModel::open(model_in(result.folder), threads, needs_tokenizer(tasks), type);
    for (size_t t = 0; t < tasks.size(); ++t)
      result.tasks.push_back({prepared.get(t, tasks[t], *model), {}, {}});
  }
  GuidanceOptions guidance;
  guidance.compute = o.compute;
  for (ModelResults& result : results) {
    const RecipeModel named =
        guided(model_in(result.folder), guidance, threads, progress.callback());
    const auto model =
        RunningModel::open(named, threads, needs_tokenizer(tasks), type, kKeptOfRecipe);
    run_model(result, *model, progress.callback());
  }
  if (!o.json_out.empty())
    write_text(o.json_out, results_json(results, baseline, type).dump(2) + "\n");
  if (!o.samples_folder.empty()) write_samples(o, results);
  if (o.common->json) {
    fmt::print("{}\n", results_json(results, baseline, type).dump(2));
  } else {
    print_results(results, baseline, type);
  }
}

}  // namespace

void add_eval_verb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand(
      "eval", "Score models on tasks, with standard errors and paired differences");
  verb->add_option("MODEL", o->models,
                   "Model folders, or recipes, which are merged while they are read")
      ->required();
  verb->add_option("--task", o->tasks,
                   "loss, perplexity or gsm8k; or TASK:FILE or TASK:FILE:FORMAT; may be repeated")
      ->required()
      ->allow_extra_args(false);
  verb->add_option("--data", o->defaults.data, "Data of tasks that name none");
  verb->add_option("--format", o->defaults.format,
                   "Format of data: gsm8k, mbpp, chat, jsonl, text, ids");
  verb->add_option("--prompt-field", o->defaults.prompt_field,
                   "Field of the prompt (format jsonl)");
  verb->add_option("--answer-field", o->defaults.answer_field,
                   "Field of the answer (format jsonl)");
  verb->add_option("--limit", o->defaults.limit, "First items only (0: all)");
  verb->add_option("--shots", o->defaults.shots, "gsm8k: worked examples before each question");
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
  verb->add_option("--baseline", o->baseline,
                   "One of the models: the others are compared with it item by item");
  verb->add_option("--json-out", o->json_out,
                   "Write all results, item by item, to this file as well");
  verb->add_option("--log-samples", o->samples_folder,
                   "Write one JSON line an item into this folder");
  add_compute_option(*verb, o->compute);
  o->common = add_common_options(*verb);
  verb->callback([o] { run_eval(*o); });
}

}  // namespace lewis
