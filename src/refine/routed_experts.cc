#include "refine/routed_experts.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "refine/router_solver.h"

namespace lewis {
namespace {

constexpr int64_t kFewestRows = 100;  // that a routed expert is fitted to

Matrix gather(const Matrix& x, std::span<const int64_t> rows) {
  Matrix some(static_cast<int64_t>(rows.size()), x.columns);
  for (int64_t i = 0; i < some.rows; ++i)
    std::copy_n(x.row(rows[static_cast<size_t>(i)]), x.columns, some.row(i));
  return some;
}

void scale_rows(std::span<const float> factors, Matrix& x) {
  for (size_t i = 0; i < factors.size(); ++i) {
    float* row = x.row(static_cast<int64_t>(i));
    for (int64_t c = 0; c < x.columns; ++c) row[c] *= factors[i];
  }
}

// Adds an expert's output, times the tokens' weights, to their rows of y.
void scatter(const Matrix& output, const RoutedRows& routed, Matrix& y) {
  for (int64_t i = 0; i < output.rows; ++i) {
    const auto at = static_cast<size_t>(i);
    for (int64_t c = 0; c < y.columns; ++c)
      y.row(routed.rows[at])[c] += routed.weights[at] * output.row(i)[c];
  }
}

}  // namespace

Streams RoutedExpertsSolver::solve(const Streams& x, const Streams& routed_x) {
  const int64_t width = routed_x[kMerged].columns;
  Streams y = streams_.make(width);
  std::ranges::fill(y[kMerged].values, 0.0f);
  std::vector<RoutedRows> routed;
  {
    const Teachers teachers = run_experts(x, routed_x, y);
    const auto block = run_unsolved(models_.prior, kPrior, x, routed_x, y);
    routed = solve_router(*block, x, teachers);
    run_few(*block, routed, routed_x[kMerged], y[kMerged]);
  }
  size_t few = 0;
  for (size_t e = 0; e < routed.size(); ++e) {
    if (solves(routed[e])) {
      solve_expert(step_.experts[e], routed[e], routed_x, y[kMerged]);
    } else {
      skip(step_.experts[e]);
      ++few;
    }
  }
  if (few > 0) {
    solver_.note(fmt::format("{} of {} routed experts see fewer than {} tokens: left as merged",
                             few, routed.size(), kFewestRows));
  }
  const LinearLayer& router = linear(step_.router).merged;
  solver_.count_done(static_cast<uint64_t>(router.out * router.in));
  if (step_.shared.up != kNoIndex) add_shared_expert(x, y[kMerged]);
  return y;
}

// Whether there are enough tokens to fit to.
bool RoutedExpertsSolver::solves(const RoutedRows& routed) const {
  return std::ranges::count_if(routed.rows, [&](int64_t r) {
           return r < text_.fit_rows && text_.weights[static_cast<size_t>(r)] > 0;
         }) >= kFewestRows;
}

void RoutedExpertsSolver::skip(const ExpertLinears& expert) {
  for (const int index : {expert.gate, expert.up, expert.down}) {
    if (index == kNoIndex) continue;
    const LinearLayer& l = linear(index).merged;
    solver_.count_done(static_cast<uint64_t>(l.out * l.in));
  }
}

// The parts of a stream that go through `model`, by its weights.
std::shared_ptr<const BlockWeights> RoutedExpertsSolver::run_unsolved(const Transformer& model,
                                                                      StreamIndex stream,
                                                                      const Streams& x,
                                                                      const Streams& routed_x,
                                                                      Streams& y) const {
  auto block = model.load_block(layer_);
  for (const StreamPart& part : streams_.parts()) {
    if (part.stream != stream || part.model != &model) continue;
    for (int64_t first = 0; first < part.segment->rows; first += kRowsPerGroup) {
      const int64_t at = part.first_row + first;
      model.experts_output(*block, step_, std::min(kRowsPerGroup, part.segment->rows - first),
                           x[stream].row(at), routed_x[stream].row(at), y[stream].row(at));
    }
  }
  return block;
}

// Runs, for the merged stream, the routed experts that see too little to be solved.
void RoutedExpertsSolver::run_few(const BlockWeights& block, std::span<const RoutedRows> routed,
                                  const Matrix& routed_x, Matrix& merged) const {
  for (size_t e = 0; e < routed.size(); ++e) {
    if (routed[e].rows.empty() || solves(routed[e])) continue;
    Matrix its = gather(routed_x, routed[e].rows);
    scale_rows(routed[e].in_weights, its);
    Matrix output(its.rows, its.columns);
    models_.prior.expert_output(block, step_, static_cast<int64_t>(e), its.rows, its.row(0),
                                output.row(0));
    scatter(output, routed[e], merged);
  }
}

// ---- the router ----

RoutedExpertsSolver::Teachers RoutedExpertsSolver::run_experts(const Streams& x,
                                                               const Streams& routed_x,
                                                               Streams& y) const {
  Teachers teachers{Matrix(text_.rows, models_.prior.spec().experts.count), {}};
  teachers.rows.resize(step_.experts.size());
  for (const Transformer* expert : models_.experts) {
    const auto block = run_unsolved(*expert, kExperts, x, routed_x, y);
    add_teacher(*expert, *block, x, teachers);
  }
  for (std::vector<int64_t>& rows : teachers.rows) std::ranges::sort(rows);
  return teachers;
}

// The teacher's scores are those of alpha X^e + (1 - alpha) X^m, as of every other layer; its
// choices are those of its own stream.
void RoutedExpertsSolver::add_teacher(const Transformer& expert, const BlockWeights& block,
                                      const Streams& x, Teachers& teachers) const {
  const auto alpha = static_cast<float>(settings_.alpha.value_or(1));
  for (const StreamPart& part : streams_.parts()) {
    if (part.stream != kExperts || part.model != &expert) continue;
    const int64_t rows = part.segment->rows, at = part.first_row;
    float* scores = teachers.scores.row(at);
    expert.router_scores(block, step_, rows, x[kExperts].row(at), scores);
    Matrix copy(rows, teachers.scores.columns);
    std::copy_n(scores, copy.values.size(), copy.row(0));
    const std::vector<RoutedRows> routed = expert.choose_experts(block, step_, rows, copy.row(0));
    for (size_t e = 0; e < routed.size(); ++e) {
      for (const int64_t row : routed[e].rows) teachers.rows[e].push_back(at + row);
    }
    if (alpha == 1) continue;
    expert.router_scores(block, step_, rows, x[kMerged].row(at), copy.row(0));
    for (size_t i = 0; i < copy.values.size(); ++i)
      scores[i] = alpha * scores[i] + (1 - alpha) * copy.values[i];
  }
}

// What the merged stream's router chooses, once it is solved.
std::vector<RoutedRows> RoutedExpertsSolver::solve_router(const BlockWeights& block,
                                                          const Streams& x,
                                                          const Teachers& teachers) {
  Matrix scores(text_.rows, teachers.scores.columns);
  models_.prior.router_scores(block, step_, text_.rows, x[kMerged].row(0), scores.row(0));
  const std::vector<double> before = agreement(teachers, choose(block, scores));
  std::vector<RoutedRows> routed =
      choose(block, refine_router(solver_, models_, text_, settings_, linear(step_.router),
                                  x[kMerged], teachers.scores, std::move(scores)));
  const std::vector<double> after = agreement(teachers, routed);
  for (size_t k = 0; k < before.size(); ++k) solver_.add_choices({before[k], after[k]});
  return routed;
}

std::vector<RoutedRows> RoutedExpertsSolver::choose(const BlockWeights& block,
                                                    Matrix scores) const {
  return models_.prior.choose_experts(block, step_, scores.rows, scores.row(0));
}

// Per expert model the share of its choices that `routed` has, too.
std::vector<double> RoutedExpertsSolver::agreement(const Teachers& teachers,
                                                   std::span<const RoutedRows> routed) const {
  const bool held = text_.held_rows() > 0;
  std::vector<double> same(models_.experts.size()), all(models_.experts.size());
  std::vector<int64_t> both;
  for (const Segment& s : text_.segments) {
    if (s.held_out != held) continue;
    const auto within = [&](const std::vector<int64_t>& rows) {
      return std::ranges::subrange(std::ranges::lower_bound(rows, s.first_row),
                                   std::ranges::lower_bound(rows, s.first_row + s.rows));
    };
    for (size_t e = 0; e < routed.size(); ++e) {
      const auto theirs = within(teachers.rows[e]);
      both.clear();
      std::ranges::set_intersection(theirs, within(routed[e].rows), std::back_inserter(both));
      same[s.expert] += static_cast<double>(both.size());
      all[s.expert] += static_cast<double>(theirs.size());
    }
  }
  for (size_t k = 0; k < all.size(); ++k) same[k] = all[k] > 0 ? same[k] / all[k] : 1;
  return same;
}

const RefinedLayer* RoutedExpertsSolver::gate_of(const ExpertLinears& expert) const {
  return expert.gate == kNoIndex ? nullptr : &linear(expert.gate);
}

void RoutedExpertsSolver::solve_down(const ExpertLinears& expert, const TextRows& text,
                                     const Streams& inner, Streams& y) {
  const RefinedLayer* const layers[] = {&linear(expert.down)};
  solver_.solve(LayerSystem(solver_, text, inner, layers), *layers[0], y);
}

void RoutedExpertsSolver::solve_expert(const ExpertLinears& expert, const RoutedRows& routed,
                                       const Streams& x, Matrix& merged) {
  const TextRows text = select_rows(text_, routed.rows);
  Streams inner;
  {
    Streams its = {gather(x[kExperts], routed.rows), gather(x[kMerged], routed.rows), {}};
    for (const size_t s : {kExperts, kMerged}) scale_rows(routed.in_weights, its[s]);
    const RefinedLayer* gate = gate_of(expert);
    const RefinedLayer& up = linear(expert.up);
    inner = solver_.solve_gated(LayerSystem(solver_, text, its, gated_layers(gate, up)), gate, up);
  }
  Streams y = like(inner, x[kMerged].columns);
  solve_down(expert, text, inner, y);
  scatter(y[kMerged], routed, merged);
}

// merged += sigmoid(switch(x)) * shared expert(x).
void RoutedExpertsSolver::add_shared_expert(const Streams& x, Matrix& merged) {
  Streams inner, switches = streams_.make(1);
  {
    const RefinedLayer* gate = gate_of(step_.shared);
    const RefinedLayer& up = linear(step_.shared.up);
    auto layers = gated_layers(gate, up);
    layers.push_back(&linear(step_.shared_switch));
    const LayerSystem system(solver_, text_, x, layers);
    inner = solver_.solve_gated(system, gate, up);
    solver_.solve(system, linear(step_.shared_switch), switches);
  }
  Streams y = streams_.make(merged.columns);
  solve_down(step_.shared, text_, inner, y);
  for (int64_t r = 0; r < merged.rows; ++r) {
    const float open = 1.0f / (1.0f + std::exp(-switches[kMerged].row(r)[0]));
    for (int64_t c = 0; c < merged.columns; ++c) merged.row(r)[c] += open * y[kMerged].row(r)[c];
  }
}

}  // namespace lewis
