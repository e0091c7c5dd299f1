// The verb convert: a model, or what a recipe merges, as one GGUF file.
#pragma once

#include <lewis/lewis.h>

#include <filesystem>
#include <string>
#include <vector>

#include "app/gguf/mix.h"

namespace lewis {

struct ConvertJob {
  std::filesystem::path model;  // a folder, or a recipe, which is guided and refined as it asks
  std::filesystem::path out;
  GgufMix mix{};
  std::filesystem::path imatrix;  // statistics, or an importance matrix, of the model; empty: none
  std::string pre;                // see gguf_vocabulary
  std::filesystem::path modelfile;  // for Ollama: `FROM` this file; empty: none
  uint64_t part_bytes = 0;          // OUT in files of at most so many bytes (gguf_parts); 0: one
  bool force = false;               // replace OUT
  UnknownKeys unknown_keys = UnknownKeys::kRefused;
  GuidanceOptions guidance{};
};

struct ConvertResult {
  uint64_t bytes = 0, tensors = 0;
  std::string architecture;
  std::vector<std::filesystem::path> files;  // OUT, or its parts
};

// Writes OUT in one pass over the tensors, under another name until it is whole; of parts the first
// gets its name last. Memory: the
// largest tensor as it is stored, a piece of it as floats, and what merging takes. Throws
// Error(kUsage): OUT exists; Error(kInput): as export_model and gguf_vocabulary; Error(kResource):
// the disk is too small.
ConvertResult convert(const ConvertJob& job, const RunContext& run = {});

}  // namespace lewis
