// Adapters: one out of a fine-tuned model, written for PEFT (docs/adapters.md). To write a model
// with its adapters, and to prove that a model holds one, see adapter_recipe and prove of lewis.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <lewis/export.h>
#include <lewis/lewis.h>

namespace lewis {

// ---- extract: a LoRA adapter that makes one model of another ----

struct ExtractJob {
  // Folders, or recipes: `model` may be a merge of adapters on `base`, which makes one of them.
  std::filesystem::path base, model;
  std::filesystem::path out;  // folder of the adapter; it appears when it is complete
  // One of both: the size, which is that of this rank in every linear layer; or the largest error,
  // as a share of the change of all linear layers together (0 to 1).
  int64_t rank = 0;
  double error = 0;
  bool uniform_ranks = false;     // one rank everywhere; else ranks lie where they lessen the error
  std::string dtype = "float32";  // of the factors: float32, bfloat16, float16
  uint64_t seed = 0;              // of the random start
  bool dora = false;              // with the magnitudes of DoRA (arXiv 2402.09353)
  bool expert_parameters = false;  // routed experts as target_parameters, though stored one by one
  bool partial = false;            // leave out changed tensors that an adapter cannot hold
  // What weighs the inputs of linear layers, so that the error of outputs is least: a file of
  // statistics, or text (data, format, samples and so on of `text`) that `model` is calibrated on.
  // Without either all inputs weigh the same.
  std::filesystem::path statistics;
  CalibrateJob text{};    // its guidance is how recipes are guided, too
  std::string base_name;  // what the adapter calls its base; "": the last part of base's path
  bool force = false;     // replace an adapter at `out`
  UnknownKeys unknown_keys = UnknownKeys::kRefused;  // of recipes
};

// A linear layer that changed, or a parameter that holds those of all experts of a layer. `rank` 0:
// its factors were not worth their size.
struct ExtractedModule {
  std::string module;  // X of X.weight, or the parameter's name
  int64_t rank = 0;
  double change = 0;      // Frobenius norm of the change, weighted where weights are given
  double error = 0;       // share of it that the stored factors do not give back
  bool weighted = false;  // by statistics or text
};

struct ExtractResult {
  std::filesystem::path out;
  std::vector<ExtractedModule> layers;
  std::vector<std::string> saved;     // modules that are stored whole
  std::vector<std::string> biases;    // tensors that are stored as they are
  std::vector<std::string> left_out;  // changed tensors that are not in the adapter
  uint64_t equal_tensors = 0;         // that did not change
  uint64_t numbers = 0, bytes = 0;    // of all factors; of all tensors of the adapter
  double error = 0;                   // share of the change of all linear layers that is missing
};

// Reads both models tensor by tensor; the adapter is in memory. Throws Error(kUsage), before any
// work: options that do not fit together, `out` exists; an error that no adapter reaches.
// Error(kInput): models that are equal or do not fit together, changed tensors that an adapter
// cannot hold (unless `partial`), statistics of another model; else as calibrate.
LEWIS_API ExtractResult extract(const ExtractJob& job, const RunContext& run = {});

// The object that `lewis extract --json` prints.
LEWIS_API std::string json_text(const ExtractResult& result);

}  // namespace lewis
