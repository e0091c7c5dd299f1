// A LoRA adapter that makes one model of another: the difference of each linear layer by low-rank
// factors, and whole tensors where an adapter has them so.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "base/progress.h"
#include "base/tensor.h"
#include "base/threads.h"
#include "io/expert_tensors.h"
#include "io/tensor_source.h"

namespace lewis {

// How the ranks of the linear layers are chosen.
enum class RankChoice { kAuto, kUniform };

// Returns what the inputs of a linear layer's weight are weighted by, [inputs] positive numbers:
// the root mean square of each on some text. Empty: nothing is known of this layer.
using InputWeights = std::function<std::vector<float>(const TensorInfo& weight)>;

struct ExtractOptions {
  int64_t rank = 0;  // the size is that of this rank everywhere; 0: `error` decides
  double error = 0;  // the largest error, relative to the change of all linear layers together
  RankChoice ranks = RankChoice::kAuto;
  DType dtype = DType::kF32;  // of the factors; whole tensors keep their own
  uint64_t seed = 0;
  bool partial = false;                // leave out what an adapter cannot hold
  bool outputs_are_columns = false;    // weights are [in, out] (GPT-2's)
  bool dora = false;                   // magnitudes beside the factors (arXiv 2402.09353)
  FusedExperts fused_experts{};        // how the base stores the experts that are shown one by one
  std::string base_name, description;  // for adapter_config.json and the card
  InputWeights weights{};              // then errors are those of the outputs; may be empty
  ProgressFn progress{};
};

// A linear layer of the adapter, or a parameter that holds those of all experts of a layer. Squares
// are sums over the entries of the change, weighted where weights are given; `residual` is of what
// the stored factors do not give back.
struct ExtractedLayer {
  std::string module;
  int64_t rows = 0, columns = 0, rank = 0;  // outputs, inputs
  double squares = 0, residual = 0;
  bool weighted = false;
  bool expert = false;     // a routed expert that is stored by itself
  bool parameter = false;  // of target_parameters: fused experts, `rank` for each
};

struct ExtractedAdapter {
  std::vector<ExtractedLayer> layers;
  std::vector<std::string> saved;      // modules that are stored whole
  std::vector<std::string> left_out;   // tensors that changed and are not in the adapter
  size_t equal = 0;                    // tensors that did not change
  std::vector<std::string> unchanged;  // linear layers among them
  uint64_t numbers = 0;                // of all factors
  std::vector<TensorInfo> tensors;     // of adapter_model.safetensors
  std::vector<std::vector<std::byte>> data;
  bool keeps_ties = false;          // saved embeddings are the head as well
  std::vector<std::string> biases;  // tensors among them, so that adapter_config.json says so

  double error() const;  // sqrt(residual / squares) over all layers
};

// Reads two models tensor by tensor; the adapter is in memory, and beside it a tensor of each model
// and its change. A linear layer (X.weight, a matrix that is no embedding, head or router) becomes
// factors. Routed experts become factors, too, all of them where one has changed: with one rank for
// all where the base stores them one by one, as parameters of their own ranks where it stores them
// fused (rank_groups.h). Other modules whose weights changed are saved whole, biases as they are.
// With `dora` every layer of factors has magnitudes, the norms of the rows of `model`; routed
// experts cannot.
// Throws Error(kInput): a tensor that only one model has (a head beside tied embeddings aside), or
// of another shape; values that are not finite; models that are equal; and, unless `partial`,
// changed tensors that an adapter cannot hold, which it names. Error(kUsage): an error that no
// adapter of full rank reaches.
ExtractedAdapter extract_adapter(const TensorSource& base, const TensorSource& model,
                                 const ExtractOptions& options, Threads& threads);

// Error(kUsage): `out` exists, and is no adapter or not to be replaced (`force`).
void check_adapter_target(const std::filesystem::path& out, bool force);

// Writes adapter_config.json and adapter_model.safetensors as PEFT 0.21 does, and a README.md. The
// folder gets its name last, by rename. Throws as check_adapter_target.
void write_adapter(const ExtractedAdapter& adapter, const ExtractOptions& options,
                   const std::filesystem::path& out, bool force);

}  // namespace lewis
