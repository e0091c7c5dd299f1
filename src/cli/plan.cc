// lewis plan RECIPE: the densities that LEWIS finds, and what the merge will cost.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "app/measures.h"
#include "app/totals.h"
#include "app/worker_plan.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/maps.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "plan/covered.h"

namespace lewis {
namespace {

struct PlanArguments {
  std::filesystem::path recipe;
  UnknownKeys unknown = UnknownKeys::kRefused;
  PlanJob job;
  std::string max_memory;
  uint64_t workers = 0;  // 0: densities and cost of one process
  std::string disk_speed, shard_size;
  std::shared_ptr<CommonOptions> common;
};

// A note about experts that have the mean of their layer; it names a few of them.
TerminalText few_tokens_note(const LayerPlan& plan) {
  constexpr size_t kNamed = 5;
  if (plan.few_tokens.empty()) return "";
  TerminalText names;
  size_t count = 0;
  for (const auto& [expert, tokens] : plan.few_tokens) {
    if (count++ == kNamed) break;
    names += terminal_text("  {}: {} tokens\n", expert, tokens);
  }
  if (plan.few_tokens.size() > kNamed) names += TerminalText::ready("  ... (--json names all)\n");
  return terminal_text(
      "{} expert(s) saw fewer than {} tokens and have the mean of their layer:\n{}\n",
      plan.few_tokens.size(), kFewTokens, names);
}

// The settings that the allocation reads, and those that are on besides densities.
std::string settings_text(const LewisSection& lewis) {
  std::string text;
  const bool by_deviation = lewis.allocation == Allocation::kBudget;
  if (lewis.allocation == Allocation::kMinMax || by_deviation)
    text += fmt::format(", gamma {}, epsilon {}", lewis.gamma, lewis.epsilon);
  if (by_deviation || lewis.allocation == Allocation::kThreshold)
    text += fmt::format(", budget {}", lewis.budget);
  if (by_deviation) text += fmt::format(", kappa {}", lewis.kappa);
  if (lewis.trim != Trim::kMagnitude) text += ", trim by |d| sqrt(s)";
  if (lewis.aim) text += fmt::format(", AIM omega {}", *lewis.aim);
  return text;
}

TerminalText coefficient_note(const LayerPlan& plan, const std::string& method) {
  if (plan.coefficient.empty()) return "";
  std::vector<double> factors;
  for (const auto& [_, factor] : plan.coefficient) factors.push_back(factor);
  const auto [low, high] = std::ranges::minmax(factors);
  const char* note = method.find("ties") != std::string::npos
                         ? "; ties divides by the weights of those that agree, where they cancel "
                           "(normalize: false "
                           "keeps them)"
                         : "";
  return terminal_text("weights times {:.4f} to {:.4f} by tensor{}\n\n", low, high, note);
}

void print_densities(const PlannedModel& planned, double uncovered, const Terminal& terminal) {
  const LayerPlan& plan = planned.layers;
  if (plan.density.empty()) {
    write_out("densities as written\n\n");
    return;
  }
  std::vector<HeatMaps> maps = {density_measure({{"", plan.density}})};
  if (!plan.importance.empty()) maps.push_back(importance_measure({{"", plan.importance}}));
  write_out("{}\n", terminal_maps(maps, terminal));
  write_out(
      "mean density {:.4f} over {} linear layers, {:.4f} weighted by parameters;\n"
      "{:.4f} of the whole model (what is not covered: {})\n\n",
      planned.mean_density, plan.density.size(), planned.weighted_density, planned.whole_density,
      uncovered);
}

void print_models(const PlanResult& result, const Terminal& terminal) {
  for (const PlannedModel& planned : result.models) {
    const LewisSection& lewis = *result.recipe->lewis;
    write_out("{}: densities from {}{}\n{} -> {}, protocol {}{}\n\n",
              styled(planned.model, "1", terminal.color), planned.data,
              planned.from_statistics ? "" : ", linear layers in " + result.compute,
              name_of(lewis.importance), name_of(lewis.allocation), name_of(lewis.protocol),
              settings_text(lewis));
    print_densities(planned, lewis.uncovered, terminal);
    write_out("{}{}", coefficient_note(planned.layers, result.recipe->merge_method),
              few_tokens_note(planned.layers));
  }
  if (result.models.empty())
    write_out("The recipe asks for no calibration: densities are as written.\n\n");
}

void print_totals(const TotalsTable& totals, const Terminal& terminal) {
  std::vector<Table::Column> columns;
  for (const std::string& name : totals.head)
    columns.push_back({name, columns.empty() ? Align::kLeft : Align::kRight});
  Table table(columns);
  for (const auto& row : totals.rows) table.add({row.begin(), row.end()});
  write_out("{}\n", table.text(terminal));
}

void print_errors(const std::vector<ModuleValues>& errors) {
  if (errors.empty()) return;
  write_out("{}\n",
            terminal_maps({activation_error_measure(titled(errors))}, Terminal::of(STDOUT_FILENO)));
}

void print_diagnostics(const MergeDiagnostics& d) {
  const Terminal terminal = Terminal::of(STDOUT_FILENO);
  const std::vector<std::string> titles = short_names({d.models.begin(), d.models.end()});
  write_out("{}\n", terminal_maps(diagnostic_measures(d, titles), terminal));
  write_out(
      "All tensors together. Size: of the task vector, relative to the base; changed: entries\n"
      "that differ from it; kept: those of them that trimming leaves; dropped: the squared\n"
      "norm of the others; in the merge: the share of the task vector that the result has.\n\n");
  print_totals(task_vector_table(d, titles), terminal);
  if (titles.size() > 1) print_totals(pair_table(d, titles), terminal);
}

// A note about refinement, which maps and costs do not show.
void print_refinement(const PlanResult& result) {
  if (result.refinement.empty()) return;
  write_out("The result will then be {}.\n", result.refinement);
  if (result.diagnostics) write_out("Maps, totals and errors here are of the merge before that.\n");
  write_out("What it takes in memory and disk: lewis merge RECIPE OUT --dry-run.\n\n");
}

void print_cost(const MergeCost& cost) {
  write_out(
      "The merge will read {}, write {} ({} tensors, {} parameters)\n"
      "and need about {} of memory.\n",
      human_bytes(cost.bytes_read), human_bytes(cost.bytes_written), with_commas(cost.tensors),
      with_commas(cost.parameters), human_bytes(cost.peak_memory));
}

// How mergekit reads a written plan.
std::string mergekit_note(const Recipe& recipe) {
  if (recipe.lewis && (recipe.lewis->trim != Trim::kMagnitude || recipe.lewis->aim)) {
    return std::string("mergekit reads it, but trims by magnitude and does not relax") +
           (refines(recipe) ? " or refine" : "");
  }
  return std::string("mergekit accepts it") +
         (refines(recipe) ? "; densities only: a merge of it is not refined" : "");
}

// ---- how a job is cut for several workers ----

Json to_json(const WorkerPlan& plan) {
  Json steps = Json::array();
  for (const WorkerStep& step : plan.steps) {
    steps.push_back({{"step", step.name},
                     {"parts", step.parts},
                     {"memory", step.memory},
                     {"bytes_read", step.bytes_read},
                     {"bytes_written", step.bytes_written},
                     {"seconds", step.seconds},
                     {"seconds_alone", step.seconds_alone}});
  }
  Json json = {{"workers", plan.workers},
               {"steps", steps},
               {"shards", plan.shards},
               {"bytes_written", plan.bytes_written},
               {"read_speed", plan.read_speed},
               {"write_speed", plan.write_speed},
               {"speed_is_measured", !plan.is_stated},
               {"operations_per_second", plan.operations_per_second},
               {"threads", plan.threads}};
  if (!plan.warnings.empty()) json["warnings"] = plan.warnings;
  return json;
}

void print_assumptions(const WorkerPlan& plan) {
  write_out("Assumed: each worker reads {}/s and writes {}/s{}, at the same time as all others.\n",
            human_bytes(static_cast<uint64_t>(plan.read_speed)),
            human_bytes(static_cast<uint64_t>(plan.write_speed)),
            plan.is_stated ? ", as stated" : ", as this machine does now (--disk-speed states it)");
  if (plan.operations_per_second > 0) {
    write_out("Assumed: {:.0f} GFLOP/s per worker, as this machine multiplies with {} thread{}.\n",
              plan.operations_per_second / 1e9, plan.threads, plan.threads == 1 ? "" : "s");
  }
  write_out("Memory: of the program with its models; a job needs some more.\n");
  write_out(
      "An evaluation of OUT is cut by items, in as many parts as there are (`lewis eval --part`);\n"
      "its time depends on the answers.\n");
  if (plan.shard_bytes_for_all > 0) {
    write_out(
        "The merge has {} shard{}, so that no more workers have work; --out-shard-size {} makes\n"
        "enough of them for {}.\n",
        plan.shards, plan.shards == 1 ? "" : "s", plan.shard_bytes_for_all, plan.workers);
  }
}

void print(const WorkerPlan& plan) {
  Table table({{"step", Align::kLeft},
               {"parts"},
               {"memory each"},
               {"reads each"},
               {"writes each"},
               {"time"},
               {"alone"}});
  double seconds = 0, alone = 0;
  for (const WorkerStep& step : plan.steps) {
    table.add({step.name, std::to_string(step.parts), human_bytes(step.memory),
               human_bytes(step.bytes_read), human_bytes(step.bytes_written),
               human_seconds(step.seconds), human_seconds(step.seconds_alone)});
    seconds += step.seconds;
    alone += step.seconds_alone;
  }
  table.add_line();
  table.add({"all", "", "", "", "", human_seconds(seconds), human_seconds(alone)});
  write_out("{}\n", table.text(Terminal::of(STDOUT_FILENO)));
  print_assumptions(plan);
}

void run_workers(PlanArguments& o, const RunContext& run) {
  MergeJob job;
  job.recipe = o.job.recipe;
  job.guidance = o.job.guidance;
  if (!o.shard_size.empty()) job.shard_bytes = parse_bytes(o.shard_size, "--out-shard-size");
  const uint64_t speed = o.disk_speed.empty() ? 0 : parse_bytes(o.disk_speed, "--disk-speed");
  const WorkerPlan plan = plan_workers(job, o.workers, speed, run);
  o.common->json ? write_json(to_json(plan)) : print(plan);
}

void run_plan(PlanArguments& o) {
  if (o.workers == 0 && !(o.disk_speed.empty() && o.shard_size.empty()))
    throw usage_error("--disk-speed and --out-shard-size are for --workers");
  if (o.workers > 0 && (o.job.diagnostics || !o.job.out.empty()))
    throw usage_error("--workers finds no densities: leave out --out and --diagnostics");
  make_local(o.recipe, *o.common);
  o.job.recipe = open_recipe(o.recipe, o.unknown);
  if (!o.max_memory.empty()) o.job.guidance.max_memory = parse_bytes(o.max_memory, "--max-memory");
  ProgressPrinter progress(o.common->quiet);
  if (o.workers > 0) return run_workers(o, run_context(*o.common, progress));
  const PlanResult result = plan(o.job, run_context(*o.common, progress));
  if (o.common->json) {
    write_json_text(json_text(result));
    return;
  }
  print_models(result, Terminal::of(STDOUT_FILENO));
  if (result.diagnostics) print_diagnostics(*result.diagnostics);
  print_errors(result.activation_errors);
  print_refinement(result);
  print_cost(result.cost);
  if (!o.job.out.empty())
    write_out("Written: {} ({})\n", o.job.out.string(), mergekit_note(*result.recipe));
}

}  // namespace

void add_plan_verb(CLI::App& app) {
  auto o = std::make_shared<PlanArguments>();
  CLI::App* verb = app.add_subcommand("plan", "Show the densities that LEWIS finds for a recipe");
  verb->add_option("RECIPE", o->recipe, "mergekit recipe, with a lewis: section for guidance")
      ->required();
  verb->add_option("-o,--out", o->job.out, "Write the recipe with densities, as mergekit reads it");
  verb->add_flag(
      "--diagnostics", o->job.diagnostics,
      "Read all weights and show size, share kept and sign conflict of task vectors; and, by "
      "running the merge, its activation error against each expert on held-out text");
  verb->add_option("--cache", o->job.guidance.cache, "Folder of the statistics' cache");
  verb->add_option("--max-memory", o->max_memory,
                   "Bytes of memory of the calibration (K, M, B: decimal)");
  verb->add_option("--workers", o->workers,
                   "Say how the job is cut for N workers: parts, memory and time of each step, "
                   "by headers alone; find no densities");
  verb->add_option("--disk-speed", o->disk_speed,
                   "With --workers: bytes per second that each worker reads and writes (K, M, B: "
                   "decimal); without it, the speed of this machine now");
  verb->add_option("--out-shard-size", o->shard_size,
                   "With --workers: as lewis merge will have it");
  add_compute_option(*verb, o->job.guidance.compute);
  add_lenient_option(*verb, o->unknown);
  o->common = add_common_options(*verb);
  verb->callback([o] { run_plan(*o); });
}

}  // namespace lewis
