// The routed experts of a block that is refined.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "refine/block_streams.h"
#include "refine/layer_solver.h"

namespace lewis {

// Computes an ExpertsStep in all streams. The experts of the experts' streams and of the prior's
// run as they are, each by its own router. The merged stream's router is solved first
// (refine/router_solver.h). A routed expert is then solved on the tokens that it sends there; the
// experts' models are asked what their expert of that number makes of such a token, wherever they
// send it themselves.
class RoutedExpertsSolver {
 public:
  // `layers`: by the index of the step's linear layers. All arguments must live as long as this.
  RoutedExpertsSolver(const RefineModels& models, const TextRows& text,
                      const RefineSettings& settings, int64_t layer, const ExpertsStep& step,
                      std::span<const RefinedLayer> layers, const BlockStreams& streams,
                      LayerSolver& solver)
      : models_(models),
        text_(text),
        settings_(settings),
        layer_(layer),
        step_(step),
        layers_(layers),
        streams_(streams),
        solver_(solver) {}

  // The output of the step, where the router sees x and the experts routed_x. The solver's result
  // gets the router's choices.
  Streams solve(const Streams& x, const Streams& routed_x);

 private:
  const RefinedLayer& linear(int index) const { return layers_[static_cast<size_t>(index)]; }
  bool solves(const RoutedRows& routed) const;
  void skip(const ExpertLinears& expert);
  // What the routers of the experts' models make of the texts: scores [rows, routed experts], and
  // per routed expert the rows that are sent to it, ascending.
  struct Teachers {
    Matrix scores;
    std::vector<std::vector<int64_t>> rows;
  };
  Teachers run_experts(const Streams& x, const Streams& routed_x, Streams& y) const;
  void add_teacher(const Transformer& expert, const BlockWeights& block, const Streams& x,
                   Teachers& teachers) const;
  std::vector<double> agreement(const Teachers& teachers, std::span<const RoutedRows> routed) const;
  std::vector<RoutedRows> choose(const BlockWeights& block, Matrix scores) const;
  std::vector<RoutedRows> solve_router(const BlockWeights& block, const Streams& x,
                                       const Teachers& teachers);
  std::shared_ptr<const BlockWeights> run_unsolved(const Transformer& model, StreamIndex stream,
                                                   const Streams& x, const Streams& routed_x,
                                                   Streams& y) const;
  void run_few(const BlockWeights& block, std::span<const RoutedRows> routed,
               const Matrix& routed_x, Matrix& merged) const;
  void solve_expert(const ExpertLinears& expert, const RoutedRows& routed, const Streams& x,
                    Matrix& merged);
  void add_shared_expert(const Streams& x, Matrix& merged);
  const RefinedLayer* gate_of(const ExpertLinears& expert) const;
  void solve_down(const ExpertLinears& expert, const TextRows& text, const Streams& inner,
                  Streams& y);

  const RefineModels& models_;
  const TextRows& text_;
  const RefineSettings& settings_;
  int64_t layer_;
  const ExpertsStep& step_;
  std::span<const RefinedLayer> layers_;
  const BlockStreams& streams_;
  LayerSolver& solver_;
};

}  // namespace lewis
