// One linear layer of a block that is refined: its new weights, by regression, RegMean or
// RegMean++ (docs/refine.md), and the outputs of all streams with them.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "refine/block.h"
#include "refine/ridge.h"
#include "refine/streams.h"

namespace lewis {

// A linear layer of the merged model, and where each expert has it.
struct RefinedLayer {
  LinearLayer merged;
  std::vector<LinearLayer> experts;
  std::optional<LinearLayer> base{};
};

// Both, or `up` alone where there is no gate.
inline std::vector<const RefinedLayer*> gated_layers(const RefinedLayer* gate,
                                                     const RefinedLayer& up) {
  if (!gate) return {&up};
  return {gate, &up};
}

constexpr int64_t kPanel = 1024;  // output channels that are solved together

class LayerSolver;

// The left side of `layers`, whose input is x [rows of the text, in]: of the whole text, or of
// some of its rows (select_rows). Both must live as long. Chooses the numbers that the settings
// leave open.
struct LayerSystem {
  LayerSystem(LayerSolver& solver, const TextRows& rows, const Streams& inputs,
              std::span<const RefinedLayer* const> layers);
  const TextRows& text;
  const Streams& x;
  LayerChoice choice;
  FittedSystem fitted;
};

class LayerSolver {
 public:
  // Refined tensors and notes go to `result`; `step` is called with the number of weights solved.
  // `layer`: the block's number.
  LayerSolver(const RefineModels& models, int64_t layer, const RefineSettings& settings,
              BlockResult& result, const std::function<void(uint64_t)>& step)
      : models_(models),
        layer_(layer),
        backend_(models.prior.backend()),
        settings_(settings),
        result_(result),
        step_(step) {}

  bool is(RefineMethod method) const { return settings_.method == method; }

  // y [rows, out] of all streams: what the layer makes of the system's x, by the new weights in the
  // merged stream, by their own in the others. Error(kInput) where a weight is not finite.
  void solve(const LayerSystem& system, const RefinedLayer& l, Streams& y);
  // The same for several layers of one system.
  struct Target {
    const RefinedLayer* layer;
    Streams* y;
  };
  void solve(const LayerSystem& system, std::span<const Target> targets);
  // Solves output channels [first, first + width) alone; y has only their columns.
  void solve_panel(const LayerSystem& system, const RefinedLayer& l, int64_t first, int64_t width,
                   Streams& y);
  // activation(gate(x)) * up(x), or activation(up(x)) where `gate` is null: solves both panel by
  // panel, so that their own outputs are never there whole.
  Streams solve_gated(const LayerSystem& system, const RefinedLayer* gate, const RefinedLayer& up);
  // After solve_panel() in the process `owner`: the first process gets the new weights.
  void collect_panel(const RefinedLayer& l, int64_t first, int64_t width, size_t owner);
  // Adds a note for the reader; counts weights as done that are not solved.
  void note(std::string text) { result_.notes.push_back(std::move(text)); }
  void add_choices(const RouterChoices& choices) { result_.routers.push_back(choices); }
  void count_done(uint64_t weights) const { step_(weights); }
  // Rows of a tensor of the merged model, as stored: the prior's until they are written.
  std::span<std::byte> refined_rows(const std::string& tensor, int64_t first_row, int64_t rows,
                                    int64_t columns);

 private:
  friend struct LayerSystem;
  // Rows of an expert's layer.
  struct StoredRows {
    DType dtype;
    std::vector<std::byte> bytes;
  };

  StoredRows expert_rows(const RefinedLayer& l, size_t expert, int64_t first, int64_t width) const;
  ChoiceProbe probe(const ChoiceTable& table, const TextRows& text, const Streams& x,
                    std::span<const RefinedLayer* const> layers) const;
  void probe_layer(const RefinedLayer& l, std::span<const int64_t> channels, const TextRows& text,
                   const Streams& x, int64_t first_column, ChoiceProbe& probe) const;
  Matrix output_of(std::span<const float> weights, const Matrix& x) const;
  void pull_towards(const LayerSystem& system, const RefinedLayer& l, int64_t first,
                    std::vector<float>& weights) const;
  void activate(const TextRows& text, Streams& gate, Streams* up) const;
  void collect_rows(const std::string& tensor, int64_t first_row, int64_t rows, int64_t columns,
                    size_t owner);
  void share_outputs(const LayerSystem& system, int64_t width, size_t owner, Streams& panel) const;
  Matrix residuals_of(const LayerSystem& system, const RefinedLayer& l, int64_t first,
                      const PackedWeight& prior, Matrix& experts_y);
  std::vector<double> diagonal_part(const LayerSystem& system, const RefinedLayer& l, int64_t first,
                                    std::span<const float> prior) const;
  bool solves_bias(const RefinedLayer& l) const {
    return !l.merged.bias.empty() && settings_.biases && is(RefineMethod::kRegression);
  }
  std::vector<float> bias_rows(const Transformer& model, const LinearLayer& linear, int64_t first,
                               int64_t width) const;
  void take_biases(const LayerSystem& system, const RefinedLayer& l, int64_t first,
                   Matrix& residuals) const;
  std::vector<double> leave_to_bias(const LayerSystem& system, const Matrix& residuals,
                                    std::vector<double>& change) const;
  void add_biases(const LayerSystem& system, const RefinedLayer& l, int64_t first, int64_t width,
                  std::span<const double> change, Streams& y);

  const RefineModels& models_;
  int64_t layer_;
  Backend& backend_;
  const RefineSettings& settings_;
  BlockResult& result_;
  const std::function<void(uint64_t)>& step_;
};

}  // namespace lewis
