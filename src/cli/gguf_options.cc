#include "cli/gguf_options.h"

#include <fmt/format.h>

#include "base/human.h"

namespace lewis {
std::vector<std::string> GgufOptions::given() const {
  std::vector<std::string> names;
  if (!type.empty()) names.push_back("--type");
  if (!imatrix.empty()) names.push_back("--imatrix");
  if (!pre.empty()) names.push_back("--pre");
  if (!modelfile.empty()) names.push_back("--modelfile");
  return names;
}

void add_gguf_options(CLI::App& verb, GgufOptions& options) {
  verb.add_option("--type", options.type,
                  "Of matrices in a GGUF file: f16 (default), bf16, f32, q8_0, q6_k, q5_k_m, "
                  "q4_k_m, iq4_nl, ... (docs/gguf.md)");
  verb.add_option("--imatrix", options.imatrix,
                  "Statistics or importance matrix of the model that weighs the rounding (default: "
                  "what a recipe measures)");
  verb.add_option("--pre", options.pre,
                  "llama.cpp's name for how the tokenizer splits a text (default: recognised)");
  verb.add_option("--modelfile", options.modelfile, "Write this Modelfile for Ollama as well");
}

void run_gguf(ConvertJob& job, const GgufOptions& options, const std::string& part_size,
              const std::string& max_memory, const CommonOptions& common) {
  if (!options.type.empty()) job.type = options.type;
  job.imatrix = options.imatrix;
  job.pre = options.pre;
  job.modelfile = options.modelfile;
  if (!part_size.empty()) job.part_bytes = parse_bytes(part_size, "--out-shard-size");
  if (!max_memory.empty()) job.guidance.max_memory = parse_bytes(max_memory, "--max-memory");
  make_local(job.model, common);
  ProgressPrinter progress(common.quiet);
  const ConvertResult r = convert(job, run_context(common, progress));
  if (common.json) return write_json_text(json_text(r));
  write_out("{}: {} tensors of the architecture {}, {}{}\n", r.files.front().string(), r.tensors,
            r.architecture, human_bytes(r.bytes),
            r.files.size() > 1 ? fmt::format(" in {} files", r.files.size()) : "");
  if (!job.modelfile.empty())
    write_out("{}: `ollama create NAME -f {}` makes it a model of Ollama\n", job.modelfile.string(),
              job.modelfile.string());
}

}  // namespace lewis
