// GGUF: a model as one file for llama.cpp and Ollama (docs/gguf.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <lewis/export.h>
#include <lewis/options.h>
#include <lewis/recipe.h>
#include <lewis/run_context.h>

namespace lewis {

// ---- convert ----

struct ConvertJob {
  std::filesystem::path
      model;  // a folder, GGUF file or recipe, which is guided and refined as it asks
  std::filesystem::path out;  // a file that ends in .gguf
  // Of matrices, as llama-quantize names it: f16, bf16, f32, q8_0, q6_k, q5_k_m, q4_k_m, ...
  std::string type = "f16";
  // Statistics of calibrate, or an importance matrix, of the model; they weigh the rounding. Empty:
  // what a recipe measures.
  std::filesystem::path imatrix;
  std::string pre;  // llama.cpp's name for how the tokenizer splits a text; "": recognised
  std::filesystem::path modelfile;  // for Ollama: `FROM` this file; empty: none
  // `out` in files of at most so many bytes of tensors, OUT-00001-of-00003.gguf and so on; 0: one.
  uint64_t part_bytes = 0;
  bool force = false;  // replace `out`
  UnknownKeys unknown_keys = UnknownKeys::kRefused;
  GuidanceOptions guidance{};
};

struct ConvertResult {
  std::filesystem::path out;
  std::string type;                          // its whole name: "q4_k_m" of "q4_k"
  uint64_t bytes = 0, tensors = 0;           // of all files
  std::string architecture;                  // as llama.cpp calls it
  std::vector<std::filesystem::path> files;  // `out`, or its parts
};

// Writes `out` in one pass over the tensors, under another name until it is whole; of parts the
// first gets its name last. Memory: the
// largest tensor as it is stored, a piece of it as floats, and what merging takes. Throws
// Error(kUsage): `out` exists, a type that is not known; Error(kInput): a family, tokenizer or
// rope_scaling that the file cannot hold, a value that is not finite; Error(kResource): the disk is
// too small.
LEWIS_API ConvertResult convert(const ConvertJob& job, const RunContext& run = {});

// The object that `lewis convert --json` prints.
LEWIS_API std::string json_text(const ConvertResult& result);

}  // namespace lewis
