// lewis convert MODEL OUT.gguf: a model, or what a recipe merges, for llama.cpp and Ollama.
#include <fmt/format.h>
#include <lewis/gguf.h>

#include "base/human.h"
#include "cli/verbs.h"

namespace lewis {
namespace {

struct ConvertArguments {
  ConvertJob job;
  std::string max_memory;
  std::shared_ptr<CommonOptions> common;
};

void run_convert(ConvertArguments& o) {
  if (!o.max_memory.empty()) o.job.guidance.max_memory = parse_bytes(o.max_memory, "--max-memory");
  make_local(o.job.model, *o.common);
  ProgressPrinter progress(o.common->quiet);
  const ConvertResult r = convert(o.job, run_context(*o.common, progress));
  if (o.common->json) return write_json_text(json_text(r));
  write_out("{}: {} tensors of the architecture {}, {}\n", o.job.out.string(), r.tensors,
            r.architecture, human_bytes(r.bytes));
  if (!o.job.modelfile.empty())
    write_out("{}: `ollama create NAME -f {}` makes it a model of Ollama\n",
              o.job.modelfile.string(), o.job.modelfile.string());
}

}  // namespace

void add_convert_verb(CLI::App& app) {
  auto o = std::make_shared<ConvertArguments>();
  CLI::App* verb = app.add_subcommand(
      "convert", "A model, or what a recipe merges, as a GGUF file for llama.cpp and Ollama");
  verb->add_option("MODEL", o->job.model, "Model folder or id, or recipe")->required();
  verb->add_option("OUT", o->job.out, "File that ends in .gguf")->required();
  verb->add_option("--type", o->job.type,
                   "Of matrices: f16 (default), bf16, f32, q8_0, q6_k, q5_k_m, q4_k_m, iq4_nl, ... "
                   "(docs/gguf.md)");
  verb->add_option(
      "--imatrix", o->job.imatrix,
      "Statistics or importance matrix of MODEL that weighs the rounding (default: what "
      "a recipe measures)");
  verb->add_option("--pre", o->job.pre,
                   "llama.cpp's name for how the tokenizer splits a text (default: recognised)");
  verb->add_option("--modelfile", o->job.modelfile, "Write this Modelfile for Ollama as well");
  verb->add_flag("--force", o->job.force, "Replace OUT");
  verb->add_option("--cache", o->job.guidance.cache, "Folder of the statistics' cache");
  verb->add_option("--max-memory", o->max_memory,
                   "Bytes of memory of calibration and refinement (K, M, B: decimal)");
  add_compute_option(*verb, o->job.guidance.compute);
  add_lenient_option(*verb, o->job.unknown_keys);
  o->common = add_common_options(*verb);
  verb->callback([o] { run_convert(*o); });
}

}  // namespace lewis
