// The routed experts of a block that is refined.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "refine/block_streams.h"
#include "refine/layer_solver.h"

namespace lewis {

// Computes an ExpertsStep in all streams. The experts of the experts' streams and of the prior's
// run as they are, each by its own router. The merged stream's router is the prior's, and a routed
// expert is solved on the tokens that it sends there; the experts' models are asked what their
// expert of that number makes of such a token, wherever they send it themselves.
class RoutedExpertsSolver {
 public:
  // `layers`: by the index of the step's linear layers. All arguments must live as long as this.
  RoutedExpertsSolver(const RefineModels& models, const TextRows& text, int64_t layer,
                      const ExpertsStep& step, std::span<const RefinedLayer> layers,
                      const BlockStreams& streams, LayerSolver& solver)
      : models_(models),
        text_(text),
        layer_(layer),
        step_(step),
        layers_(layers),
        streams_(streams),
        solver_(solver) {}

  // The output of the step, where the router sees x and the experts routed_x.
  Streams solve(const Streams& x, const Streams& routed_x);

 private:
  const RefinedLayer& linear(int index) const { return layers_[static_cast<size_t>(index)]; }
  bool solves(const RoutedRows& routed) const;
  void skip(const ExpertLinears& expert);
  std::shared_ptr<const BlockWeights> run_unsolved(const Transformer& model, StreamIndex stream,
                                                   const Streams& x, const Streams& routed_x,
                                                   Streams& y) const;
  std::vector<RoutedRows> run_prior(const Streams& x, const Streams& routed_x, Streams& y) const;
  void solve_expert(const ExpertLinears& expert, const RoutedRows& routed, const Streams& x,
                    Matrix& merged);
  void add_shared_expert(const Streams& x, Matrix& merged);
  const RefinedLayer* gate_of(const ExpertLinears& expert) const;
  void solve_down(const ExpertLinears& expert, const TextRows& text, const Streams& inner,
                  Streams& y);

  const RefineModels& models_;
  const TextRows& text_;
  int64_t layer_;
  const ExpertsStep& step_;
  std::span<const RefinedLayer> layers_;
  const BlockStreams& streams_;
  LayerSolver& solver_;
};

}  // namespace lewis
