#include "refine/head.h"

#include <algorithm>

#include "refine/block_streams.h"
#include "refine/layer_solver.h"
#include "refine/output_error.h"

namespace lewis {
namespace {

Streams head_inputs(const RefineModels& models, const TextRows& text, const StreamPair& in,
                    StreamPair& out) {
  BlockStreams streams(models, text, models.prior.spec().layers, in, out);
  Streams x = streams.make(models.prior.spec().hidden);
  for (const StreamPart& part : streams.parts()) {
    streams.for_hidden(part, [&](int64_t first, std::span<float> hidden) {
      part.model->head_input(hidden, x[part.stream].row(part.first_row + first));
    });
  }
  return x;
}

}  // namespace

bool refines_head(const RefineModels& models, const RefineSettings& settings) {
  return settings.head && models.prior.untied_head() &&
         std::ranges::all_of(models.experts, [](const Transformer* expert) {
           return expert->untied_head().has_value();
         });
}

// Logits are compared panel by panel: they are never there whole.
BlockResult refine_head(const RefineModels& models, const TextRows& text,
                        const RefineSettings& settings, const StreamPair& in, StreamPair& out,
                        const std::function<void(uint64_t)>& step) {
  BlockResult result;
  LayerSolver solver(models, models.prior.spec().layers, settings, result, step);
  RefinedLayer head{models.prior.untied_head().value(), {}};
  for (const Transformer* expert : models.experts)
    head.experts.push_back(expert->untied_head().value());
  const Streams x = head_inputs(models, text, in, out);
  if (models.base) head.base = models.base->untied_head();
  const RefinedLayer* const layers[] = {&head};
  const LayerSystem system(solver, text, x, layers);
  OutputError solved(text), prior(text);
  const bool held = text.held_rows() > 0;
  const int64_t channels = head.merged.out;
  const auto width_of = [&](size_t p) {
    return std::min(kPanel, channels - static_cast<int64_t>(p) * kPanel);
  };
  Streams y;  // of this process's panel
  const auto solve = [&](size_t p) {
    y = like(x, width_of(p));
    solver.solve_panel(system, head, static_cast<int64_t>(p) * kPanel, width_of(p), y);
  };
  const auto add = [&](int64_t columns) {
    for (const Segment& s : text.segments) {
      if (s.held_out != held) continue;
      const auto values = static_cast<size_t>(s.rows * columns);
      const float* expert = y[kExperts].row(s.first_row);
      solved.add(s, s.first_row, columns, {y[kMerged].row(s.first_row), values}, expert);
      if (s.held_out)
        prior.add(s, s.first_row, columns, {y[kPrior].row(s.first_row - text.fit_rows), values},
                  expert);
    }
  };
  // The errors go from process to process, so that they are summed in the order of the panels.
  const auto panels = static_cast<size_t>((channels + kPanel - 1) / kPanel);
  in_rounds(models.ranks, panels, solve, [&](size_t p, size_t owner) {
    if (owner == models.ranks.rank()) {
      add(width_of(p));
      y = {};
    }
    for (OutputError* error : {&solved, &prior}) models.ranks.broadcast(error->bytes(), owner);
    solver.collect_panel(head, static_cast<int64_t>(p) * kPanel, width_of(p), owner);
  });
  result.error_solved = solved.value();
  result.error_prior = prior.value();
  result.kept_prior = held && result.error_prior < result.error_solved;
  if (result.kept_prior) result.tensors.clear();
  return result;
}

}  // namespace lewis
