// lewis calibrate MODEL --data FILE -o FILE (MODEL: a folder, or a recipe that is merged on
// demand), lewis calibrate RECIPE: only the statistics.
#include <fmt/format.h>

#include "base/protocol.h"
#include "cli/verbs.h"
#include "io/gguf.h"

namespace lewis {
namespace {

struct CalibrateArguments {
  CalibrateJob job;
  std::string max_memory, protocol = "clean", part;
  std::shared_ptr<CommonOptions> common;
};

void print(const CalibratedText& text) {
  const std::string file =
      text.file.empty() ? "nowhere: the cache is off (-o FILE keeps it)" : text.file.string();
  write_out("{}: {} tokens in {} sequences, {} linear layers in {} -> {}{}\n", text.model,
            with_commas(text.tokens), with_commas(text.sequences), text.linear_layers,
            text.origin.at("compute"), file, text.reused ? " (from the cache)" : "");
}

void print_part(const CalibrateJob& job, const CalibrateResult& result) {
  if (job.part) {
    write_out("part {}/{}: {} of {} pieces measured\n", job.part->index, job.part->count,
              result.pieces_measured, result.pieces);
  }
  if (result.pieces_left > 0) {
    write_out("{} of {} pieces are not there yet; the last worker adds them up\n",
              result.pieces_left, result.pieces);
  } else {
    write_out("complete: all statistics are in the cache\n");
  }
}

void run_calibrate(CalibrateArguments& o) {
  if (!o.max_memory.empty()) o.job.guidance.max_memory = parse_bytes(o.max_memory, "--max-memory");
  make_local(o.job.model, *o.common);
  make_data_local(o.job.data, *o.common);
  const bool whole_recipe = std::filesystem::is_regular_file(o.job.model) &&
                            !is_gguf_path(o.job.model) && o.job.data.empty();
  if (!whole_recipe)
    o.job.reference_protocol = value_of<Protocol>(o.protocol, "--protocol") == Protocol::kReference;
  if (!o.common->json) o.job.finished = [](const CalibratedText& text) { print(text); };
  ProgressPrinter progress(o.common->quiet);
  if (!o.part.empty()) o.job.part = parse_part(o.part);
  const CalibrateResult result = calibrate(o.job, run_context(*o.common, progress));
  if (!o.common->json && (o.job.part || o.job.finish)) print_part(o.job, result);
  if (o.common->json)
    write_json_text(whole_recipe ? json_text(result) : json_text(result.texts.at(0)));
}

}  // namespace

void add_calibrate_verb(CLI::App& app) {
  auto o = std::make_shared<CalibrateArguments>();
  CLI::App* verb =
      app.add_subcommand("calibrate", "Measure what calibration text does to a model's layers");
  verb->add_option("MODEL|RECIPE", o->job.model,
                   "Model folder or GGUF file; a recipe: its models on the texts of its lewis: "
                   "section, or with "
                   "--data the merged model, which is not written")
      ->required();
  verb->add_option("--data", o->job.data, "Calibration text");
  verb->add_option("--format", o->job.format, "gsm8k, mbpp, chat, jsonl, text or ids");
  verb->add_option("--prompt-field", o->job.prompt_field, "Field of the prompt (format jsonl)");
  verb->add_option("--answer-field", o->job.answer_field, "Field of the answer (format jsonl)");
  verb->add_option("-o,--out", o->job.out,
                   "Statistics file, as llama.cpp's importance matrix if it ends in .gguf; without "
                   "it the result goes to the cache");
  verb->add_option("--cache", o->job.guidance.cache, "Folder of the cache");
  verb->add_option("--part", o->part,
                   "I/N: of a recipe's texts measure only share I (from 0) of N, beside other "
                   "workers with the same cache; auto: I and N from Slurm, MPI or Kubernetes; the "
                   "last worker adds the shares up");
  verb->add_flag("--finish", o->job.finish,
                 "Measure nothing: add up what the parts have measured, or say what is missing");
  verb->add_option("--max-memory", o->max_memory,
                   "Bytes of memory (K, M, B: decimal): kept, or refused before any work");
  add_compute_option(*verb, o->job.guidance.compute);
  verb->add_option("--protocol", o->protocol, "clean (default) or reference (the paper's)");
  verb->add_option("--samples", o->job.samples, "Samples to take (0: all)");
  verb->add_option("--seed", o->job.seed, "Seed of the choice of samples");
  verb->add_option("--max-tokens", o->job.max_tokens,
                   "Longest sequence (0: 512 for text, no limit for ids)");
  verb->add_flag("--skip-first-token", o->job.skip_first_token,
                 "Do not count the first token of a sequence");
  add_lenient_option(*verb, o->job.unknown_keys);
  o->common = add_common_options(*verb);
  verb->callback([o] { run_calibrate(*o); });
}

}  // namespace lewis
