// lewis eval MODEL...: tasks, with standard errors and paired differences to a baseline.
#include <fmt/format.h>
#include <unistd.h>

#include "app/measures.h"
#include "cli/eval_table.h"
#include "cli/maps.h"
#include "cli/verbs.h"

namespace lewis {
namespace {

struct EvalArguments {
  EvaluateJob job;
  std::string max_memory, part;
  std::shared_ptr<CommonOptions> common;
};

void print_layers(const LayerErrors& errors, const Terminal& terminal) {
  HeatMaps measure = activation_error_measure(titled(errors.experts));
  measure.title += " of " + errors.model;
  write_out("\n{}", terminal_maps({measure}, terminal));
}

void print_part(const MergePart& part, const EvaluateResult& result) {
  write_out("part {}/{}: {} items, {} of them run now\n", part.index, part.count, result.part_items,
            result.part_items_run);
  write_out("the same command with --finish, in place of --part, writes the results\n");
}

void run_eval(EvalArguments& o) {
  if (!o.max_memory.empty()) o.job.guidance.max_memory = parse_bytes(o.max_memory, "--max-memory");
  for (auto& model : o.job.models) make_local(model, *o.common);
  if (!o.job.expert.empty()) make_local(o.job.expert, *o.common);
  if (!o.job.layers.empty()) make_local(o.job.layers, *o.common);
  if (!o.part.empty()) o.job.part = parse_part(o.part);
  ProgressPrinter progress(o.common->quiet);
  const RunContext run = run_context(*o.common, progress);
  pull_data(o.job, hub_options(), run);
  const EvaluateResult result = evaluate(o.job, run);
  if (o.common->json) {
    write_json_text(json_text(result));
    return;
  }
  if (o.job.part) {
    print_part(*o.job.part, result);
    return;
  }
  const Terminal terminal = Terminal::of(STDOUT_FILENO);
  if (!o.job.tasks.empty() || !o.job.other_results.empty())
    write_out("{}", results_text(*result.models, result.baseline, terminal));
  for (const LayerErrors& l : result.layers) print_layers(l, terminal);
  for (const auto& file : result.files) write_out("Written: {}\n", file.string());
}

}  // namespace

void add_eval_verb(CLI::App& app) {
  auto o = std::make_shared<EvalArguments>();
  CLI::App* verb = app.add_subcommand(
      "eval", "Score models on tasks, with standard errors and paired differences");
  verb->add_option("MODEL", o->job.models,
                   "Model folders, GGUF files, or recipes, which are merged while they are read");
  verb->add_option("--task", o->job.tasks,
                   "loss, perplexity, kl, gsm8k, gsm8k_cot, mbpp, humaneval or ifeval; TASK:FILE "
                   "or TASK:FILE:FORMAT; or FILE.yaml, a task of your own; may be repeated")
      ->allow_extra_args(false);
  verb->add_option("--data", o->job.settings.data, "Data of tasks that name none");
  verb->add_option("--data-dir", o->job.settings.data_folder,
                   "Folder with the data of known tasks: gsm8k_test.jsonl, gsm8k_train.jsonl, "
                   "mbpp.jsonl, humaneval.jsonl, ifeval_input_data.jsonl (else: Hugging Face's "
                   "cache)");
  verb->add_option("--format", o->job.settings.format,
                   "Format of data: gsm8k, mbpp, ifeval, chat, jsonl, text, ids");
  verb->add_option("--prompt-field", o->job.settings.prompt_field,
                   "Field of the prompt (format jsonl)");
  verb->add_option("--answer-field", o->job.settings.answer_field,
                   "Field of the answer (format jsonl)");
  verb->add_option("--limit", o->job.settings.limit, "First items only (0: all)");
  verb->add_option("--shots,--num_fewshot", o->job.settings.shots,
                   "Worked examples before each question (default: the task's own)");
  verb->add_option("--shots-data", o->job.settings.shots_data,
                   "Where the examples come from (gsm8k's training file)");
  verb->add_option("--max-new-tokens", o->job.settings.max_new_tokens, "Longest generation");
  verb->add_option("--temperature", o->job.settings.temperature,
                   "Of sampled generation (default: 0, greedy)");
  verb->add_option("--top-p", o->job.settings.top_p,
                   "Sample among the most likely tokens that have this probability together");
  verb->add_option("--seed", o->job.settings.seed, "Of sampled generation");
  verb->add_option("--window", o->job.settings.window,
                   "perplexity: tokens a window (default: the model's positions, 1024 at most)");
  verb->add_option("--stride", o->job.settings.stride,
                   "perplexity: tokens from window to window (default: half a window)");
  verb->add_option("--kl-to", o->job.expert, "kl: the model whose distributions are the reference");
  verb->add_option("--layers", o->job.layers,
                   "A recipe with lewis.calibration: show, layer by layer, how far each model is "
                   "from its experts on held-out calibration text");
  verb->add_flag("--allow-unsandboxed", o->job.allow_unsandboxed,
                 "Run programs of models even where a layer of the sandbox is missing");
  verb->add_option("--baseline", o->job.baseline,
                   "One of the models or results: the others are compared with it item by item");
  verb->add_option(
      "--output-path,--output_path", o->job.output,
      "Folder for the results, in lm-evaluation-harness's shape: one folder a model; a "
      "run that is stopped goes on there when it is given again");
  verb->add_flag("--log-samples,--log_samples", o->job.log_samples,
                 "Write every item with prompt, answer and scores beside the results");
  verb->add_flag("--no-resume", o->job.no_resume,
                 "Run all items, whatever an earlier run has finished");
  verb->add_option("--part", o->part,
                   "I/N: run only share I (from 0) of N of the items, beside other workers with "
                   "the same --output-path; auto: I and N from Slurm, MPI or Kubernetes");
  verb->add_flag("--finish", o->job.finish,
                 "Run nothing: write the results of the items that the parts have run, or say what "
                 "is missing");
  verb->add_option("--results", o->job.other_results,
                   "Results of another run, of lewis or of lm-evaluation-harness (file or folder), "
                   "to show beside; may be repeated")
      ->allow_extra_args(false);
  verb->add_option(
      "--max-memory", o->max_memory,
      "Bytes of memory of generation, and of a recipe's calibration and refinement (K, "
      "M, B: decimal); weights that do not fit are read again for every token");
  add_compute_option(*verb, o->job.guidance.compute);
  add_lenient_option(*verb, o->job.unknown_keys);
  o->common = add_common_options(*verb);
  verb->callback([o] { run_eval(*o); });
}

}  // namespace lewis
