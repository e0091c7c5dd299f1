// What `lewis convert` and `lewis merge RECIPE OUT.gguf` have in common.
#pragma once

#include <lewis/gguf.h>

#include <string>
#include <vector>

#include "cli/verbs.h"

namespace lewis {

struct GgufOptions {
  std::string type, imatrix, pre, modelfile;
  // The options that were given, with two hyphens.
  std::vector<std::string> given() const;
};

// Adds --type, --imatrix, --pre and --modelfile. `options` must live as long as the verb.
void add_gguf_options(CLI::App& verb, GgufOptions& options);

// Converts and prints the result. `part_size` and `max_memory`: texts of the command line, or "".
void run_gguf(ConvertJob& job, const GgufOptions& options, const std::string& part_size,
              const std::string& max_memory, const CommonOptions& common);

}  // namespace lewis
