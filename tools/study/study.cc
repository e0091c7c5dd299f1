// make study: a small laboratory. Scores merges of the demo's models (or of those that are named)
// on test items, over several draws of calibration text, and writes a page with tables, figures,
// and what holds and what does not.
//
//   lewis_study [--out docs/study.md] [--draws 2] [--items 100] [--evaluations 8] [--threads 0]
//               [BASE EXPERT,TRAIN,TEST,FORMAT EXPERT,TRAIN,TEST,FORMAT ...]
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <optional>

#include "app/interrupts.h"
#include "app/refinement.h"
#include "app/tuning.h"
#include "base/error.h"
#include "base/random.h"
#include "merge/method.h"
#include "plan/covered.h"
#include "plan/normalization.h"
#include "study_page.h"

namespace lewis {
namespace {

struct Expert {
  std::string model, train, test, format;
};

struct Settings {
  std::filesystem::path out = "docs/study.md";
  size_t draws = 2, items = 100, evaluations = 8, threads = 0;
  std::string base = "demo/models/base";
  std::vector<Expert> experts = {
      {"demo/models/math", "demo/data/math_train.jsonl", "demo/data/math_test.jsonl", "gsm8k"},
      {"demo/models/code", "demo/data/code_train.jsonl", "demo/data/code_test.jsonl", "mbpp"}};
};

// A recipe with densities in place of those that its guidance finds.
using Change = std::function<void(std::vector<ModelPlan>& plans, uint64_t draw)>;

class Study {
 public:
  // `interrupted`: see check_interrupt.
  Study(const Settings& settings, const std::atomic<bool>& interrupted)
      : settings_(settings), interrupted_(interrupted), threads_(settings.threads) {}

  StudyPage run() {
    check_files();
    page_.draws = settings_.draws;
    page_.evaluations = settings_.evaluations;
    claims();
    // What is there is written after each group: a run that is stopped leaves a page.
    for (const auto group : {&Study::references, &Study::methods, &Study::lewis,
                             &Study::more_of_lewis, &Study::refinements, &Study::tuned_scales}) {
      (this->*group)();
      write_page(page_, settings_.out);
    }
    return std::move(page_);
  }

 private:
  // A model or a file that is not there would be left out of the page without a word.
  void check_files() const {
    std::vector<std::string> names = {settings_.base};
    for (const Expert& e : settings_.experts) {
      for (const std::string& name : {e.model, e.train, e.test}) names.push_back(name);
    }
    for (const std::string& name : names) {
      if (std::filesystem::exists(name)) continue;
      throw input_error(
          "{}: is not there; paths are looked for from the working directory, so that the study of "
          "the demo is started in the source folder",
          name);
    }
  }

  // ---- recipes ----

  std::string models(const std::string& parameters) const {
    std::string text = "base_model: " + settings_.base + "\nmodels:\n";
    for (const Expert& e : settings_.experts)
      text += "  - {model: " + e.model + ", parameters: {" + parameters + "}}\n";
    return text;
  }
  std::string recipe(const std::string& method, const std::string& parameters,
                     const std::string& global = "") const {
    return "merge_method: " + method + "\n" + models(parameters) +
           (global.empty() ? "" : "parameters: {" + global + "}\n") + "dtype: bfloat16\n";
  }
  // `more` is further keys of the section, each line "  key: value\n".
  std::string section(uint64_t draw, const std::string& more, uint64_t samples = 15) const {
    std::string text = "lewis:\n  calibration:\n";
    for (const Expert& e : settings_.experts) {
      text += fmt::format("    - {{model: {}, data: {}, format: {}, samples: {}, seed: {}}}\n",
                          e.model, e.train, e.format, samples, 42 + draw);
    }
    return text + more;
  }

  // ---- scoring ----

  CalibrationEntry test_of(const Expert& e) const {
    CalibrationEntry entry;
    entry.data = e.test;
    entry.format = value_of<DataFormat>(e.format, "format");
    return entry;
  }

  Losses score(const RecipeModel& named) {
    const auto model = open_named(named, true, guidance_, threads_, quiet());
    Losses losses;
    for (const Expert& e : settings_.experts) {
      LossItems items{test_of(e), {}};
      items.items.resize(settings_.items);
      std::iota(items.items.begin(), items.items.end(), size_t{0});
      losses.push_back(answer_losses(*model, items, quiet()));
    }
    return losses;
  }
  Losses score(const Recipe& recipe) {
    RecipeModel named;
    named.model = "a merge";
    named.stage = std::make_shared<const Recipe>(recipe);
    return score(named);
  }
  Losses score_text(const std::string& text) {
    const Recipe recipe = parse_recipe(text, "");
    check_plan_settings(recipe);
    return score(recipe);
  }
  ProgressFn quiet() {
    return [this](const Progress&) { check_interrupt(interrupted_); };
  }

  void add(const std::string& group, const std::string& name,
           const std::function<Losses(uint64_t draw)>& losses_of, bool drawn) {
    Row row{group, name, {}, ""};
    try {
      for (uint64_t draw = 0; draw < (drawn ? settings_.draws : 1); ++draw)
        row.losses.push_back(losses_of(draw));
    } catch (const Error& e) {
      if (e.code() == ExitCode::kInterrupted) throw;
      fmt::print(stderr, "{}: {}\n", name, e.what());
      return;
    }
    row.note = std::exchange(note_, "");
    page_.rows.push_back(std::move(row));
    fmt::print(stderr, "{:4} rows: {}\n", page_.rows.size(), name);
  }
  void add_fixed(const std::string& group, const std::string& name, const std::string& text) {
    add(
        group, name, [&](uint64_t) { return score_text(text); }, false);
  }
  void add_drawn(const std::string& group, const std::string& name, const std::string& merge,
                 const std::string& more, uint64_t samples = 15) {
    add(
        group, name,
        [&](uint64_t draw) { return score_text(merge + section(draw, more, samples)); }, true);
  }
  // The numbers are found on each draw's training text.
  void add_tuned(const std::string& group, const std::string& name, const std::string& merge,
                 const std::string& more, uint64_t samples = 15, bool drop_section = false) {
    std::vector<std::vector<double>> found;
    add(
        group, name,
        [&](uint64_t draw) {
          const TunableRecipe tunable =
              TunableRecipe::parse(merge + section(draw, more, samples), "");
          TuneOptions options;
          options.evaluations = settings_.evaluations;
          options.seed = draw;
          options.guidance = guidance_;
          const TuneReport report = tune(tunable, options, nullptr, threads_, quiet());
          found.push_back(report.values);
          note_ = "found: " + found_text(tunable, found);
          Recipe recipe = tunable.with(report.values);
          if (drop_section) recipe.lewis.reset();
          return score(recipe);
        },
        true);
  }
  static std::string found_text(const TunableRecipe& tunable,
                                const std::vector<std::vector<double>>& found) {
    std::string text;
    for (size_t i = 0; i < tunable.ranges().size(); ++i) {
      const std::string& path = tunable.ranges()[i].path;
      std::vector<double> values;
      for (const auto& f : found) values.push_back(f[i]);
      text += fmt::format("{}{} {}", text.empty() ? "" : "; ", path.substr(path.rfind('.') + 1),
                          fmt::join(values, ", "));
    }
    return text;
  }
  void add_changed(const std::string& group, const std::string& name, const std::string& more,
                   const Change& change) {
    add(
        group, name,
        [&](uint64_t draw) {
          const Recipe plain =
              parse_recipe(recipe("ties", "weight: 1, density: 0.5") + section(draw, more), "");
          Guidance guidance = guide(plain, guidance_, threads_, quiet());
          change(guidance.plans, draw);
          Recipe changed = apply_plans(plain, guidance.plans);
          changed.lewis.reset();
          return score(changed);
        },
        true);
  }

  // ---- rows ----

  void references() {
    const auto of = [&](const std::string& folder) {
      return [this, folder](uint64_t) {
        RecipeModel m;
        m.model = folder;
        m.folder = folder;
        return score(m);
      };
    };
    add("Models", "base", of(settings_.base), false);
    page_.base = page_.rows.back().losses[0];
    for (const Expert& e : settings_.experts) {
      const std::string name = std::filesystem::path(e.model).filename().string();
      add("Models", name, of(e.model), false);
      page_.experts.push_back(page_.rows.back().losses[0]);
      page_.tasks.push_back(name);
    }
  }

  void methods() {
    for (const std::string_view name : merge_method_names()) {
      const MergeMethod& method = find_merge_method(name);
      const std::string m(name);
      if (m == "passthrough") continue;  // copies one model
      std::string parameters = method.reads("weight") ? "weight: 1" : "";
      if (method.reads("density")) parameters += ", density: 0.5";
      const std::string global = method.reads("t") ? m == "nearswap" ? "t: 0.001" : "t: 0.5" : "";
      if (method.max_models == 1) {  // from one expert to the other
        if (settings_.experts.size() != 2) continue;
        add_fixed("Methods", m,
                  "merge_method: " + m + "\nbase_model: " + settings_.experts[0].model +
                      "\nmodels: [{model: " + settings_.experts[1].model + "}]\nparameters: {" +
                      global + "}\ndtype: bfloat16\n");
      } else if (method.base == BaseRole::kApart || method.base == BaseRole::kOptional) {
        add_fixed("Methods", m, recipe(m, parameters, global));
      } else {  // the experts alone
        const std::string all = recipe(m, parameters, global);
        const size_t line = all.find("base_model:");
        add_fixed("Methods", m, std::string(all).erase(line, all.find('\n', line) + 1 - line));
      }
    }
  }

  void tuned_scales() {
    const std::string lambda = "lambda: {search: [0.3, 2], start: 1}";
    for (const char* m : {"task_arithmetic", "ties", "breadcrumbs"}) {
      const std::string density = std::string(m) == "task_arithmetic" ? "" : ", density: 0.5";
      add_tuned("Tuned", std::string(m) + ", tuned", recipe(m, "weight: 1" + density, lambda), "",
                15, true);
    }
    const std::string scaled =
        recipe("ties", "weight: 1, density: 0.5", "lambda: {search: [0.3, 2], start: 1}");
    add_tuned("Tuned", "LEWIS clean, tuned scale", scaled, "");
    add_tuned("Tuned", "uniform 0.5 on linear layers, tuned scale", scaled,
              "  gamma: 0.5\n  epsilon: 0.5\n");
    add_tuned(
        "Tuned", "regression, 100 texts, scale and ridge tuned",
        recipe("task_arithmetic", "weight: 1", "lambda: {search: [0.7, 1.4], start: 1}"),
        "  allocation: none\n  refine: {samples: 100, ridge: {search: [0.05, 10], scale: log, "
        "start: 1}}\n",
        100);
  }

  // The plan's densities, each model's replaced by their parameter-weighted mean.
  void make_uniform(std::vector<ModelPlan>& plans) {
    for (ModelPlan& plan : plans) {
      const auto model = open_input(model_named(plan), {});
      double sum = 0, all = 0;
      for (const auto& [module, d] : plan.density) {
        const auto n = static_cast<double>(element_count(weight_of(*model.source, module).shape));
        sum += d * n;
        all += n;
      }
      for (auto& [_, d] : plan.density) d = sum / all;
    }
  }
  RecipeModel model_named(const ModelPlan& plan) const {
    RecipeModel m;
    m.folder = settings_.experts.at(plan.model).model;
    return m;
  }

  // Densities change places within a component, so that as many entries are kept.
  static void permute(std::vector<ModelPlan>& plans,
                      const std::function<void(std::vector<double*>&)>& reorder) {
    for (ModelPlan& plan : plans) {
      std::map<std::string, std::vector<double*>> components;
      for (auto& [module, d] : plan.density) components[component_of(module)].push_back(&d);
      for (auto& [_, places] : components) reorder(places);
    }
  }
  static void shuffle(std::vector<ModelPlan>& plans, uint64_t draw) {
    uint32_t counter = 0;
    permute(plans, [&](std::vector<double*>& places) {
      for (size_t i = places.size(); i > 1; --i) {
        const auto random = philox4x32({counter++, 0, 0, 0}, {static_cast<uint32_t>(draw), 7});
        std::swap(*places[i - 1], *places[random[0] % i]);
      }
    });
  }
  static void invert(std::vector<ModelPlan>& plans, uint64_t) {
    permute(plans, [](std::vector<double*>& places) {
      std::ranges::sort(places, {}, [](const double* d) { return *d; });
      for (size_t i = 0; i < places.size() / 2; ++i)
        std::swap(*places[i], *places[places.size() - 1 - i]);
    });
  }

  void lewis() {
    const std::string ties = recipe("ties", "weight: 1, density: 0.5");
    const auto uniform = [this](std::vector<ModelPlan>& plans, uint64_t) { make_uniform(plans); };
    for (const std::string protocol : {"clean", "reference"}) {
      const std::string p = "  protocol: " + protocol + "\n";
      add_drawn("LEWIS", "LEWIS " + protocol, ties, p);
      add_changed("LEWIS", "uniform, budget of LEWIS " + protocol, p, uniform);
      add_changed("LEWIS", "LEWIS " + protocol + " shuffled", p, shuffle);
      add_changed("LEWIS", "LEWIS " + protocol + " inverted", p, invert);
    }
  }

  void more_of_lewis() {
    const std::string ties = recipe("ties", "weight: 1, density: 0.5");
    const auto variant = [&](const std::string& name, const std::string& more) {
      add_drawn("More of LEWIS", name, ties, more);
    };
    variant("uniform 0.5 on linear layers", "  gamma: 0.5\n  epsilon: 0.5\n");
    for (const char* importance : {"norm_shift", "task_vector", "activation_shift"}) {
      variant(std::string(importance) + ", budget 0.5",
              fmt::format("  importance: {}\n  allocation: budget\n", importance));
    }
    variant("threshold 0.5", "  allocation: threshold\n");
    variant("uniform 0.5, trim: activation", "  gamma: 0.5\n  epsilon: 0.5\n  trim: activation\n");
    variant("threshold 0.5, trim: activation", "  allocation: threshold\n  trim: activation\n");
    variant("uniform 0.5, AIM 0.4", "  gamma: 0.5\n  epsilon: 0.5\n  aim: {omega: 0.4}\n");
    const std::string sum = recipe("task_arithmetic", "weight: 1");
    add_drawn("More of LEWIS", "task_arithmetic, lines 0.5 to 1", sum,
              "  allocation: none\n  coefficient: lines\n");
    add_drawn("More of LEWIS", "task_arithmetic, coefficient importance", sum,
              "  allocation: none\n  importance: task_vector\n  coefficient: importance\n");
  }

  void refinements() {
    const std::string prior = recipe("task_arithmetic", "weight: 1", "lambda: 0.7");
    for (const char* method : {"regmean", "regmean_pp", "regression"}) {
      add_drawn("Refined", std::string(method) + ", prior 0.7", prior,
                fmt::format("  allocation: none\n  refine: {{method: {}}}\n", method), 32);
    }
    add_drawn("Refined", "regression, prior 1.1, ridge 1, 100 texts",
              recipe("task_arithmetic", "weight: 1", "lambda: 1.1"),
              "  allocation: none\n  refine: {samples: 100, ridge: 1}\n", 15);
  }

  void claims() {
    const auto claim = [&](const std::string& text, const std::string& a, const std::string& b) {
      page_.claims.push_back({text, a, b});
    };
    for (const std::string p : {"clean", "reference"}) {
      claim("LEWIS beats uniform densities at the same budget", "LEWIS " + p,
            "uniform, budget of LEWIS " + p);
      claim("LEWIS beats its own densities shuffled", "LEWIS " + p, "LEWIS " + p + " shuffled");
      claim("LEWIS beats its own densities inverted", "LEWIS " + p, "LEWIS " + p + " inverted");
    }
    const std::string uniform = "uniform 0.5 on linear layers";
    for (const char* i : {"norm_shift", "task_vector", "activation_shift"})
      claim("an exact budget beats uniform", std::string(i) + ", budget 0.5", uniform);
    claim("water-filling beats uniform", "threshold 0.5", uniform);
    claim("trimming by |d| sqrt(s) beats |d|", "uniform 0.5, trim: activation", uniform);
    claim("AIM improves TIES", "uniform 0.5, AIM 0.4", uniform);
    claim("LiNeS improves the plain sum", "task_arithmetic, lines 0.5 to 1", "task_arithmetic");
    claim("a tuned scale beats scale 1", "task_arithmetic, tuned", "task_arithmetic");
    claim("a tuned scale beats scale 1", "ties, tuned", "ties");
    claim("with tuned scales, LEWIS beats uniform", "LEWIS clean, tuned scale",
          "uniform 0.5 on linear layers, tuned scale");
    claim("a tuned scale is worth more than LEWIS' densities", "ties, tuned", "LEWIS clean");
    claim("regression beats RegMean", "regression, prior 0.7", "regmean, prior 0.7");
    claim("regression beats RegMean++", "regression, prior 0.7", "regmean_pp, prior 0.7");
    claim("tuned regression beats the tuned plain sum",
          "regression, 100 texts, scale and ridge tuned", "task_arithmetic, tuned");
    claim("tuned regression beats fixed settings", "regression, 100 texts, scale and ridge tuned",
          "regression, prior 1.1, ridge 1, 100 texts");
  }

  Settings settings_;
  const std::atomic<bool>& interrupted_;
  Threads threads_;
  GuidanceOptions guidance_;
  StudyPage page_;
  std::string note_;  // of the row that is being made
};

Expert parse_expert(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text) c == ',' ? parts.emplace_back() : parts.back() += c, void();
  if (parts.size() != 4) throw usage_error("{}: expected EXPERT,TRAIN,TEST,FORMAT", text);
  return {parts[0], parts[1], parts[2], parts[3]};
}

Settings parse_arguments(std::span<char*> arguments) {
  Settings s;
  std::vector<std::string> models;
  const std::map<std::string, size_t*> numbers = {{"--draws", &s.draws},
                                                  {"--items", &s.items},
                                                  {"--evaluations", &s.evaluations},
                                                  {"--threads", &s.threads}};
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string name = arguments[i];
    if (!name.starts_with("--")) {
      models.push_back(name);
      continue;
    }
    if (++i == arguments.size()) throw usage_error("{} needs a value", name);
    const auto number = numbers.find(name);
    if (name == "--out") {
      s.out = arguments[i];
    } else if (number != numbers.end()) {
      *number->second = std::strtoull(arguments[i], nullptr, 10);
    } else {
      throw usage_error(
          "{} is not known; options: --out, --draws, --items, --evaluations, "
          "--threads",
          name);
    }
  }
  if (s.draws == 0 || s.items < 2 || s.evaluations == 0)
    throw usage_error("--draws and --evaluations must be at least 1, --items at least 2");
  if (models.empty()) return s;
  s.base = models[0];
  s.experts.clear();
  for (size_t i = 1; i < models.size(); ++i) s.experts.push_back(parse_expert(models[i]));
  if (s.experts.empty()) throw usage_error("{}: no experts", s.base);
  return s;
}

}  // namespace
}  // namespace lewis

int main(int argc, char** argv) {
  static std::atomic<bool> interrupted = false;  // outlives all threads
  lewis::catch_interrupts(interrupted);
  if (argc == 2 && std::string_view(argv[1]) == "--help") {
    fmt::print(
        "lewis_study [--out docs/study.md] [--draws 2] [--items 100] [--evaluations 8] [--threads "
        "0]\n            [BASE EXPERT,TRAIN,TEST,FORMAT EXPERT,TRAIN,TEST,FORMAT ...]\n");
    return 0;
  }
  try {
    const auto settings =
        lewis::parse_arguments(std::span(argv, static_cast<size_t>(argc)).subspan(1));
    const auto begin = std::chrono::steady_clock::now();
    const lewis::StudyPage page = lewis::Study(settings, interrupted).run();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    fmt::print("{}: {} rows, {:.0f} s\n", settings.out.string(), page.rows.size(), seconds.count());
  } catch (const lewis::Error& e) {
    fmt::print(stderr, "study: {}\n", e.what());
    return static_cast<int>(e.code());
  }
  return 0;
}
