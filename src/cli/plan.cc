// lewis plan RECIPE: the densities that LEWIS finds, and what the merge will cost.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "cli/activation_errors.h"
#include "cli/guidance.h"
#include "cli/measures.h"
#include "cli/refinement.h"
#include "cli/table.h"
#include "cli/tokenizers.h"
#include "cli/verbs.h"
#include "io/file.h"
#include "merge/engine.h"
#include "merge/input_model.h"
#include "plan/covered.h"

namespace lewis {
namespace {

struct Options {
  std::filesystem::path recipe, out;
  GuidanceOptions guidance;
  std::string max_memory;
  bool diagnostics = false;
  std::shared_ptr<CommonOptions> common;
};

struct DensityMean {
  double plain = 0, weighted = 0;  // over linear layers; over their parameters
  double whole = 0;                // over all parameters of the model, the uncovered ones included
};

DensityMean mean_density(const ModelPlan& plan, const TensorSource& expert, double uncovered) {
  DensityMean mean;
  double covered = 0, all = 0;
  for (const TensorInfo& t : expert.tensors()) all += static_cast<double>(element_count(t.shape));
  for (const auto& [module, density] : plan.density) {
    const auto count = static_cast<double>(element_count(weight_of(expert, module).shape));
    mean.plain += density / static_cast<double>(plan.density.size());
    mean.weighted += density * count;
    covered += count;
  }
  if (covered == 0) return {};  // as written
  mean.whole = (mean.weighted + uncovered * (all - covered)) / all;
  mean.weighted /= covered;
  return mean;
}

// Which experts have the mean of their layer, at most a few by name.
std::string few_tokens_note(const ModelPlan& plan) {
  constexpr size_t kNamed = 5;
  if (plan.few_tokens.empty()) return "";
  std::string names;
  size_t shown = 0;
  for (const auto& [expert, tokens] : plan.few_tokens) {
    if (shown++ == kNamed) break;
    names += fmt::format("  {}: {} tokens\n", expert, tokens);
  }
  if (plan.few_tokens.size() > kNamed) names += "  ... (--json names all)\n";
  return fmt::format(
      "{} expert(s) saw fewer than {} tokens and have the mean of their layer:\n{}\n",
      plan.few_tokens.size(), kFewTokens, names);
}

// What the allocation reads, and what is on besides densities.
std::string settings_text(const LewisSection& lewis) {
  std::string text;
  if (lewis.allocation == "min_max" || lewis.allocation == "budget")
    text += fmt::format(", gamma {}, epsilon {}", lewis.gamma, lewis.epsilon);
  if (lewis.allocation == "budget" || lewis.allocation == "threshold")
    text += fmt::format(", budget {}", lewis.budget);
  if (lewis.allocation == "budget") text += fmt::format(", kappa {}", lewis.kappa);
  if (lewis.trim != "magnitude") text += ", trim by |d| sqrt(s)";
  if (lewis.aim) text += fmt::format(", AIM omega {}", *lewis.aim);
  return text;
}

std::string coefficient_note(const ModelPlan& plan, const std::string& method) {
  if (plan.coefficient.empty()) return "";
  std::vector<double> factors;
  for (const auto& [_, factor] : plan.coefficient) factors.push_back(factor);
  const auto [low, high] = std::ranges::minmax(factors);
  const char* note = method.find("ties") != std::string::npos
                         ? "; ties divides by the weights of those that agree, where they cancel "
                           "(normalize: false "
                           "keeps them)"
                         : "";
  return fmt::format("weights times {:.4f} to {:.4f} by tensor{}\n\n", low, high, note);
}

void print_plan(const Options& o, const Recipe& recipe, const Guidance& guidance) {
  const Terminal terminal = Terminal::of(STDOUT_FILENO);
  const std::string type = calibration_type(guidance, recipe, o.guidance);
  for (const ModelPlan& plan : guidance.plans) {
    const RecipeModel& model = recipe.models[plan.model];
    const LewisSection& lewis = *recipe.lewis;
    const DensityMean mean = mean_density(
        plan, *open_input(model, {.tokenizers = change_tokenizer}).source, lewis.uncovered);
    const auto entry = std::ranges::find(lewis.calibration, plan.model, &CalibrationEntry::index);
    fmt::print("{}: densities from {}{}\n{} -> {}, protocol {}{}\n\n",
               styled(model.model, "1", terminal.color),
               (entry->has_statistics() ? entry->model_statistics : entry->data).string(),
               entry->has_statistics() ? "" : ", linear layers in " + type, lewis.importance,
               lewis.allocation, lewis.protocol, settings_text(lewis));
    if (plan.density.empty()) {
      fmt::print("densities as written\n\n");
    } else {
      std::vector<HeatMaps> maps = {density_measure({{"", plan.density}})};
      if (!plan.importance.empty()) maps.push_back(importance_measure({{"", plan.importance}}));
      fmt::print("{}\n", terminal_maps(maps, terminal));
      fmt::print(
          "mean density {:.4f} over {} linear layers, {:.4f} weighted by parameters;\n"
          "{:.4f} of the whole model (what is not covered: {})\n\n",
          mean.plain, plan.density.size(), mean.weighted, mean.whole, lewis.uncovered);
    }
    fmt::print("{}{}", coefficient_note(plan, recipe.merge_method), few_tokens_note(plan));
  }
  if (guidance.plans.empty())
    fmt::print("The recipe asks for no calibration: densities are as written.\n\n");
}

void print_totals(const TotalsTable& totals, const Terminal& terminal) {
  std::vector<Table::Column> columns;
  for (const std::string& name : totals.head)
    columns.push_back({name, columns.empty() ? Align::kLeft : Align::kRight});
  Table table(columns);
  for (const auto& row : totals.rows) table.add(row);
  fmt::print("{}\n", table.text(terminal));
}

// Only where the recipe says which expert is to be reproduced on what text.
std::vector<ModuleValues> errors_of_plan(const Options& o, const Recipe& guided, Threads& threads,
                                         const ProgressFn& progress) {
  if (!guided.lewis || guided.lewis->calibration.empty()) return {};
  auto plain = std::make_shared<Recipe>(guided);
  plain->lewis->refine.reset();
  RecipeModel merged;
  merged.model = guided.file.string();
  merged.stage = std::move(plain);
  return activation_errors(guided, merged, o.guidance, threads, progress);
}

void print_errors(const std::vector<ModuleValues>& errors) {
  if (errors.empty()) return;
  fmt::print("{}\n", terminal_maps({activation_error_measure(titled(errors))},
                                   Terminal::of(STDOUT_FILENO)));
}

void print_diagnostics(const MergeDiagnostics& d) {
  const Terminal terminal = Terminal::of(STDOUT_FILENO);
  const std::vector<std::string> titles = short_names({d.models.begin(), d.models.end()});
  fmt::print("{}\n", terminal_maps(diagnostic_measures(d, titles), terminal));
  fmt::print(
      "All tensors together. Size: of the task vector, relative to the base; changed: entries\n"
      "that differ from it; kept: those of them that trimming leaves; dropped: the squared\n"
      "norm of the others; in the merge: the share of the task vector that the result has.\n\n");
  print_totals(task_vector_table(d, titles), terminal);
  if (titles.size() > 1) print_totals(pair_table(d, titles), terminal);
}

// What the maps and costs do not show.
void print_refinement(const Options& o, const Recipe& recipe) {
  if (!refines(recipe)) return;
  fmt::print("The result will then be {}.\n", describe_refinement(recipe));
  if (o.diagnostics) fmt::print("Maps, totals and errors here are of the merge before that.\n");
  fmt::print("What it takes in memory and disk: lewis merge RECIPE OUT --dry-run.\n\n");
}

void print_cost(const MergeCost& cost) {
  fmt::print(
      "The merge will read {}, write {} ({} tensors, {} parameters)\n"
      "and need about {} of memory.\n",
      human_bytes(cost.bytes_read), human_bytes(cost.bytes_written), with_commas(cost.tensors),
      with_commas(cost.parameters), human_bytes(cost.peak_memory));
}

Json plan_json(const Recipe& recipe, const Guidance& guidance, const MergeCost& cost) {
  Json models = Json::array();
  for (const ModelPlan& plan : guidance.plans) {
    const DensityMean mean = mean_density(
        plan, *open_input(recipe.models[plan.model], {.tokenizers = change_tokenizer}).source,
        recipe.lewis->uncovered);
    Json layers = Json::object();
    for (const auto& [module, importance] : plan.importance) {
      Json layer = {{"importance", importance}};
      if (plan.density.contains(module)) layer["density"] = plan.density.at(module);
      if (plan.base_norm.contains(module)) layer["base_norm"] = plan.base_norm.at(module);
      if (plan.expert_norm.contains(module)) layer["expert_norm"] = plan.expert_norm.at(module);
      layers[module] = layer;
    }
    models.push_back({{"model", recipe.models[plan.model].model},
                      {"mean_density", mean.plain},
                      {"parameter_weighted_density", mean.weighted},
                      {"whole_model_density", mean.whole},
                      {"layers", layers},
                      {"part_importance", plan.part_importance},
                      {"coefficients", plan.coefficient},
                      {"trim", recipe.lewis->trim},
                      {"aim_omega", recipe.lewis->aim ? Json(*recipe.lewis->aim) : Json()},
                      {"few_tokens", plan.few_tokens}});
  }
  return {{"models", models},
          {"cost",
           {{"tensors", cost.tensors},
            {"parameters", cost.parameters},
            {"bytes_read", cost.bytes_read},
            {"bytes_written", cost.bytes_written},
            {"peak_memory", cost.peak_memory}}}};
}

// What mergekit makes of a written plan, and what is not in it.
std::string mergekit_note(const Recipe& recipe) {
  if (recipe.lewis && (recipe.lewis->trim != "magnitude" || recipe.lewis->aim)) {
    return std::string("mergekit reads it, but trims by magnitude and does not relax") +
           (refines(recipe) ? " or refine" : "");
  }
  return std::string("mergekit accepts it") +
         (refines(recipe) ? "; densities only: a merge of it is not refined" : "");
}

void run_plan(Options& o) {
  Threads threads(o.common->threads);
  ProgressPrinter progress(o.common->quiet);
  const Recipe recipe = read_recipe(o.recipe);
  check_plan_settings(recipe);
  if (!o.max_memory.empty()) o.guidance.max_memory = parse_bytes(o.max_memory, "--max-memory");
  const MergeCost cost = merge_cost(recipe, threads.count(), 0,
                                    change_tokenizer);  // also checks what can be checked early
  const Guidance guidance = guide(recipe, o.guidance, threads, progress.callback());
  std::optional<MergeDiagnostics> diagnostics;
  std::vector<ModuleValues> errors;
  if (o.diagnostics) {
    diagnostics =
        diagnose(MergeInputs(guidance.recipe, open_options(threads)), threads, progress.callback());
    errors = errors_of_plan(o, guidance.recipe, threads, progress.callback());
  }
  if (!o.out.empty()) write_file_durably(o.out, planned_yaml(guidance.recipe));
  if (o.common->json) {
    Json json = plan_json(recipe, guidance, cost);
    json["compute"] = calibration_type(guidance, recipe, o.guidance);
    if (diagnostics) json["diagnostics"] = to_json(*diagnostics);
    if (!errors.empty()) json["activation_errors"] = to_json(errors);
    if (refines(recipe)) json["refinement"] = describe_refinement(recipe);
    fmt::print("{}\n", json.dump(2));
    return;
  }
  print_plan(o, recipe, guidance);
  if (diagnostics) print_diagnostics(*diagnostics);
  print_errors(errors);
  print_refinement(o, recipe);
  print_cost(cost);
  if (!o.out.empty()) fmt::print("Written: {} ({})\n", o.out.string(), mergekit_note(recipe));
}

}  // namespace

void add_plan_verb(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("plan", "Show the densities that LEWIS finds for a recipe");
  verb->add_option("RECIPE", o->recipe, "mergekit recipe, with a lewis: section for guidance")
      ->required();
  verb->add_option("-o,--out", o->out, "Write the recipe with densities, as mergekit reads it");
  verb->add_flag(
      "--diagnostics", o->diagnostics,
      "Read all weights and show size, share kept and sign conflict of task vectors; and, by "
      "running the merge, its activation error against each expert on held-out text");
  verb->add_option("--cache", o->guidance.cache, "Folder of the statistics' cache");
  verb->add_option("--max-memory", o->max_memory,
                   "Bytes of memory of the calibration (K, M, B: decimal)");
  add_compute_option(*verb, o->guidance.compute);
  o->common = add_common_options(*verb);
  verb->callback([o] { run_plan(*o); });
}

}  // namespace lewis
