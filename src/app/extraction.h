// The verb extract: an adapter out of a fine-tuned model.
#pragma once

#include <lewis/lewis.h>

#include <filesystem>

#include "merge/extraction/extract.h"

namespace lewis {

struct ExtractJob {
  // Folders, or recipes: `model` may be a merge of adapters on `base`, which makes one of them.
  std::filesystem::path base, model, out;
  // What weighs the inputs of linear layers: a file of statistics, or text (data, format, samples
  // and so on of `text`) that `model` is calibrated on. Without either all inputs weigh the same.
  std::filesystem::path statistics;
  CalibrateJob text{};
  ExtractOptions options{};  // names, weights and progress are filled in
  std::string base_name;     // "": the last part of base's path
  bool force = false;
  UnknownKeys unknown_keys = UnknownKeys::kRefused;
};

// Extracts and writes. Throws Error(kUsage) for options that do not fit together, before any work,
// and as extract_adapter, write_adapter and calibrate do.
ExtractedAdapter extract(const ExtractJob& job, const RunContext& run = {});

}  // namespace lewis
