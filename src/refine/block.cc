#include "refine/block.h"

#include "refine/block_streams.h"
#include "refine/head.h"
#include "refine/layer_solver.h"
#include "refine/norm_solver.h"
#include "refine/output_error.h"
#include "refine/routed_experts.h"

namespace lewis {
namespace {

// The linear layers of a block, in the order of BlockSteps::linears.
std::vector<RefinedLayer> refined_layers(const RefineModels& models, const BlockSteps& block) {
  std::vector<RefinedLayer> layers;
  for (const LinearLayer& merged : block.linears) layers.push_back({merged, {}});
  for (const Transformer* expert : models.experts) {
    const auto theirs = linear_layers(expert->spec(), block.layer);
    for (size_t i = 0; i < layers.size(); ++i) layers[i].experts.push_back(theirs.at(i));
  }
  if (models.base) {
    const auto its = linear_layers(models.base->spec(), block.layer);
    for (size_t i = 0; i < layers.size(); ++i) layers[i].base = its.at(i);
  }
  return layers;
}

// Answers each kind of step with the values of all streams.
class BlockRefiner {
 public:
  BlockRefiner(const RefineModels& models, const TextRows& text, const RefineSettings& settings,
               int64_t layer, const StreamPair& in, StreamPair& out,
               const std::function<void(uint64_t)>& step)
      : models_(models),
        text_(text),
        settings_(settings),
        block_(block_steps(models.prior.spec(), layer)),
        layers_(refined_layers(models, block_)),
        values_(block_.values.size()),
        out_(out),
        streams_(models, text, layer, in, out),
        solver_(models, layer, settings, result_, step) {}

  BlockResult run() {
    for (const Step& step : block_.steps) {
      std::visit([this](const auto& does) { answer(does); }, step.does);
      for (const Value value : step.ends) at(value) = {};
    }
    decide();
    return std::move(result_);
  }

 private:
  Streams& at(Value value) { return values_[static_cast<size_t>(value)]; }
  const RefinedLayer& linear(int index) const { return layers_[static_cast<size_t>(index)]; }

  void answer(const NormStep& step) {
    if (step.out != step.in) at(step.out) = streams_.make(block_.width(step.out));
    if (step.in == kStream) {
      streams_.norm_hidden(step, at(step.out));
    } else {
      streams_.norm(step, at(step.in), at(step.out));
    }
    if (step.norm != kNoIndex) {
      solve_norm(solver_, models_.prior, text_, settings_,
                 block_.norms[static_cast<size_t>(step.norm)], at(step.out));
    }
  }

  void answer(const LinearsStep& step) {
    for (const LinearOutput& output : step.outputs)
      at(output.out) = streams_.make(block_.width(output.out));
    std::vector<const RefinedLayer*> layers;
    for (const LinearOutput& output : step.outputs) layers.push_back(&linear(output.linear));
    const LayerSystem system(solver_, text_, at(step.in), layers);
    std::vector<LayerSolver::Target> targets;
    for (const LinearOutput& output : step.outputs)
      targets.push_back({&linear(output.linear), &at(output.out)});
    solver_.solve(system, targets);
  }

  void answer(const MixStep& step) {
    std::vector<Streams> in;
    std::vector<int64_t> widths;
    for (const Value value : step.in) in.push_back(std::move(at(value)));
    for (const Value value : step.out) widths.push_back(block_.width(value));
    std::vector<Streams> mixed = streams_.mix(step, in, widths);
    for (size_t i = 0; i < mixed.size(); ++i) at(step.out[i]) = std::move(mixed[i]);
  }

  void answer(const GatedStep& step) {
    const RefinedLayer* gate = step.gate == kNoIndex ? nullptr : &linear(step.gate);
    const RefinedLayer& up = linear(step.up);
    const LayerSystem system(solver_, text_, at(step.in), gated_layers(gate, up));
    at(step.out) = solver_.solve_gated(system, gate, up);
  }

  void answer(const ExpertsStep& step) {
    RoutedExpertsSolver experts(models_, text_, settings_, block_.layer, step, layers_, streams_,
                                solver_);
    at(step.out) = experts.solve(at(step.in), at(step.routed_in));
  }

  void answer(const PerLayerStep& step) { streams_.apply_per_layer_input(at(step.gate)); }
  void answer(const ScaleStep& step) { streams_.scale(step); }
  void answer(const SumStep& step) { add(at(step.from), at(step.into), models_.prior.threads()); }
  void answer(const AddStep& step) { streams_.add(at(step.in), step.multiplier); }

  // Whether the held-out tokens are better served by the solved weights or by the prior.
  void decide() {
    const bool held = text_.held_rows() > 0;
    streams_.keep_lent();
    result_.error_solved = output_error(kMerged, held);
    if (!held) return;
    result_.error_prior = output_error(kPrior, true);
    result_.kept_prior = result_.error_prior < result_.error_solved;
    if (!result_.kept_prior) return;
    result_.tensors.clear();
    for (RouterChoices& choices : result_.routers) choices.after = choices.before;
    streams_.take_prior();
  }

  double output_error(StreamIndex stream, bool held_out) {
    OutputError error(text_);
    std::vector<float> expert;
    for (const StreamPart& part : streams_.parts()) {
      if (part.stream != stream || part.segment->held_out != held_out) continue;
      streams_.for_hidden(part, [&](int64_t first, std::span<float> hidden) {
        expert.resize(hidden.size());
        const int64_t begin = part.segment->first_row + first;
        out_.experts.read(begin, expert);
        error.add(*part.segment, begin, block_.width(kStream), hidden, expert.data());
      });
    }
    return error.value();
  }

  const RefineModels& models_;
  const TextRows& text_;
  const RefineSettings& settings_;
  BlockSteps block_;
  std::vector<RefinedLayer> layers_;
  std::vector<Streams> values_;  // of the steps so far that later ones need
  StreamPair& out_;
  BlockStreams streams_;
  BlockResult result_;
  LayerSolver solver_;
};

}  // namespace

BlockResult refine_block(const RefineModels& models, const TextRows& text,
                         const RefineSettings& settings, int64_t layer, const StreamPair& in,
                         StreamPair& out, const std::function<void(uint64_t)>& step) {
  if (layer == models.prior.spec().layers)
    return refine_head(models, text, settings, in, out, step);
  return BlockRefiner(models, text, settings, layer, in, out, step).run();
}

}  // namespace lewis
