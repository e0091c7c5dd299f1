// lewis convert MODEL OUT.gguf: a model, or what a recipe merges, for llama.cpp and Ollama.
#include "cli/gguf_options.h"
#include "cli/verbs.h"

namespace lewis {
namespace {

struct ConvertArguments {
  ConvertJob job;
  GgufOptions gguf;
  std::string part_size, max_memory;
  std::shared_ptr<CommonOptions> common;
};

}  // namespace

void add_convert_verb(CLI::App& app) {
  auto o = std::make_shared<ConvertArguments>();
  CLI::App* verb = app.add_subcommand(
      "convert", "A model, or what a recipe merges, as a GGUF file for llama.cpp and Ollama");
  verb->add_option("MODEL", o->job.model, "Model folder or id, GGUF file, or recipe")->required();
  verb->add_option("OUT", o->job.out, "File that ends in .gguf")->required();
  add_gguf_options(*verb, o->gguf);
  verb->add_option("--out-shard-size", o->part_size,
                   "Write files of at most so many bytes of tensors (K, M, B: decimal), "
                   "OUT-00001-of-00003.gguf and so on");
  verb->add_flag("--force", o->job.force, "Replace OUT");
  verb->add_option("--cache", o->job.guidance.cache, "Folder of the statistics' cache");
  verb->add_option("--max-memory", o->max_memory,
                   "Bytes of memory of calibration and refinement (K, M, B: decimal)");
  add_compute_option(*verb, o->job.guidance.compute);
  add_lenient_option(*verb, o->job.unknown_keys);
  o->common = add_common_options(*verb);
  verb->callback([o] { run_gguf(o->job, o->gguf, o->part_size, o->max_memory, *o->common); });
}

}  // namespace lewis
