#include "refine/layer_solver.h"

#include <algorithm>

#include "base/error.h"

namespace lewis {
namespace {

void add_to_rows(Matrix& y, int64_t first_row, int64_t rows, std::span<const float> bias) {
  for (int64_t r = first_row; r < first_row + rows; ++r) {
    for (size_t c = 0; c < bias.size(); ++c) y.row(r)[c] += bias[c];
  }
}

// Weighted mean of the squares of a segment's inputs, per channel.
std::vector<double> squares_of(const LayerSystem& system, const Segment& s) {
  const Matrix& x = system.x[kExperts];
  std::vector<double> squares(static_cast<size_t>(x.columns));
  for (int64_t r = s.first_row; r < s.first_row + s.rows; ++r) {
    const double w = system.text.weights[static_cast<size_t>(r)];
    const float* row = x.row(r);
    for (int64_t j = 0; j < x.columns; ++j)
      squares[static_cast<size_t>(j)] += w * static_cast<double>(row[j]) * row[j];
  }
  return squares;
}

}  // namespace

LayerSystem::LayerSystem(LayerSolver& solver, const TextRows& rows, const Streams& inputs)
    : text(rows),
      x(inputs),
      ridge(
          inputs[solver.is(RefineMethod::kRegmean) ? kExperts : kMerged].first_rows(text.fit_rows),
          std::span(text.weights).first(static_cast<size_t>(text.fit_rows)),
          {solver.settings_.ridge, solver.is(RefineMethod::kRegmean) ? solver.settings_.alpha : 1,
           &solver.models_.ranks},
          solver.models_.prior.threads()) {
  if (ridge.raised() > 0) {
    solver.result_.notes.push_back(fmt::format(
        "rho was raised to {:.3g}: the activations do not span their space", ridge.rho()));
  }
}

void LayerSolver::solve(const LayerSystem& system, const RefinedLayer& l, Streams& y) {
  const Target target{&l, &y};
  solve(system, std::span(&target, 1));
}

// Panels of all layers are dealt out together, since one layer may have a single one.
void LayerSolver::solve(const LayerSystem& system, std::span<const Target> targets) {
  struct Piece {
    const Target* target;
    int64_t first, width;
    bool is_whole;
  };
  std::vector<Piece> pieces;
  for (const Target& target : targets) {
    const int64_t out = target.layer->merged.out;
    for (int64_t first = 0; first < out; first += kPanel)
      pieces.push_back({&target, first, std::min(kPanel, out - first), out <= kPanel});
  }
  Streams mine;
  const auto compute = [&](size_t p) {
    const auto& [target, first, width, is_whole] = pieces[p];
    if (!is_whole) mine = like(system.x, width);
    solve_panel(system, *target->layer, first, width, is_whole ? *target->y : mine);
  };
  in_rounds(models_.ranks, pieces.size(), compute, [&](size_t p, size_t owner) {
    const auto& [target, first, width, is_whole] = pieces[p];
    Streams other;
    Streams& panel = is_whole ? *target->y : owner == models_.ranks.rank() ? mine : other;
    share_outputs(system, width, owner, panel);
    collect_panel(*target->layer, first, width, owner);
    if (is_whole) return;
    put(panel, first, *target->y, models_.prior.threads());
    panel = {};
  });
}

// All processes get the outputs [rows, width] that one has computed.
void LayerSolver::share_outputs(const LayerSystem& system, int64_t width, size_t owner,
                                Streams& panel) const {
  if (panel[kMerged].columns == 0) panel = like(system.x, width);
  for (Matrix& y : panel)
    models_.ranks.broadcast(std::as_writable_bytes(std::span(y.values)), owner);
}

void LayerSolver::collect_rows(const std::string& tensor, int64_t first_row, int64_t rows,
                               int64_t columns, size_t owner) {
  const size_t rank = models_.ranks.rank();
  std::span<std::byte> bytes;
  if (rank == owner || models_.ranks.is_first())
    bytes = refined_rows(tensor, first_row, rows, columns);
  models_.ranks.collect(bytes, owner);
}

void LayerSolver::collect_panel(const RefinedLayer& l, int64_t first, int64_t width, size_t owner) {
  if (owner != models_.ranks.rank()) step_(static_cast<uint64_t>(width * l.merged.in));
  if (owner == 0) return;
  collect_rows(l.merged.tensor, l.merged.first_row + first, width, l.merged.in, owner);
  if (!l.merged.bias.empty())
    collect_rows(l.merged.bias, l.merged.first_row + first, width, 1, owner);
}

Streams LayerSolver::solve_gated(const LayerSystem& system, const RefinedLayer* gate,
                                 const RefinedLayer& up) {
  const int64_t out = up.merged.out;
  Streams inner = like(system.x, out), mine;
  const auto width_of = [&](size_t p) {
    return std::min(kPanel, out - static_cast<int64_t>(p) * kPanel);
  };
  const auto compute = [&](size_t p) {
    const int64_t first = static_cast<int64_t>(p) * kPanel, width = width_of(p);
    Streams a = like(system.x, width), b = gate ? like(system.x, width) : Streams();
    if (gate) solve_panel(system, *gate, first, width, b);
    solve_panel(system, up, first, width, a);
    Streams& result = gate ? b : a;
    activate(system.text, result, gate ? &a : nullptr);
    mine = std::move(result);
  };
  const auto panels = static_cast<size_t>((out + kPanel - 1) / kPanel);
  in_rounds(models_.ranks, panels, compute, [&](size_t p, size_t owner) {
    const int64_t first = static_cast<int64_t>(p) * kPanel;
    Streams other;
    Streams& panel = owner == models_.ranks.rank() ? mine : other;
    share_outputs(system, width_of(p), owner, panel);
    if (gate) collect_panel(*gate, first, width_of(p), owner);
    collect_panel(up, first, width_of(p), owner);
    put(panel, first, inner, models_.prior.threads());
    panel = {};
  });
  return inner;
}

// Each stream by the activation of its own model, which may have parameters.
void LayerSolver::activate(const TextRows& text, Streams& gate, Streams* up) const {
  const auto run = [&](const Transformer& model, size_t stream, int64_t row, int64_t rows) {
    const int64_t columns = gate[stream].columns;
    if (rows == 0) return;
    model.activate(layer_, gate[stream].row(row), up ? (*up)[stream].row(row) : nullptr,
                   rows * columns);
  };
  for (const Segment& s : text.segments)
    run(*models_.experts[s.expert], kExperts, s.first_row, s.rows);
  for (const size_t stream : {kMerged, kPrior}) run(models_.prior, stream, 0, gate[stream].rows);
}

// Output channels [first, first + width) of a layer: the new weights, and what all streams get.
void LayerSolver::solve_panel(const LayerSystem& system, const RefinedLayer& l, int64_t first,
                              int64_t width, Streams& y) {
  const int64_t in = l.merged.in;
  const std::span<std::byte> stored =
      refined_rows(l.merged.tensor, l.merged.first_row + first, width, in);
  const DType dtype = models_.prior.source().get(l.merged.tensor).dtype;
  const auto before = backend_.pack(dtype, stored.data(), width, in);
  Matrix residuals = residuals_of(system, l, first, *before, y[kExperts]);
  if (const Matrix& x = system.x[kPrior]; x.rows > 0)
    backend_.linear(*before, {}, x.row(0), x.rows, y[kPrior].row(0));

  std::vector<float> weights(static_cast<size_t>(width * in));
  widen(dtype, stored.data(), weights);
  const std::vector<double> more = diagonal_part(system, l, first, weights);
  const std::vector<double> change =
      system.ridge.solve(residuals.first_rows(system.text.fit_rows), more);
  residuals = {};
  for (size_t i = 0; i < weights.size(); ++i)
    weights[i] = static_cast<float>(static_cast<double>(weights[i]) + change[i]);
  if (!all_finite(weights))
    throw input_error("{}: refinement gives values that are not finite", l.merged.name);
  narrow(weights, dtype, stored.data());
  const auto after = backend_.pack(dtype, stored.data(), width, in);
  backend_.linear(*after, {}, system.x[kMerged].row(0), system.text.rows, y[kMerged].row(0));
  add_biases(system.text, l, first, width, y);
  step_(static_cast<uint64_t>(width * in));
}

// Rows of a tensor of the merged model: the prior's until they are written.
std::span<std::byte> LayerSolver::refined_rows(const std::string& tensor, int64_t first_row,
                                               int64_t rows, int64_t columns) {
  const TensorInfo& info = models_.prior.source().get(tensor);
  std::vector<std::byte>& bytes = result_.tensors[tensor];
  if (bytes.empty()) {
    bytes.resize(byte_size(info));
    models_.prior.source().read(info, 0, bytes);
  }
  const size_t size = dtype_size(info.dtype);
  return std::span(bytes).subspan(static_cast<size_t>(first_row * columns) * size,
                                  static_cast<size_t>(rows * columns) * size);
}

LayerSolver::StoredRows LayerSolver::expert_rows(const RefinedLayer& l, size_t expert,
                                                 int64_t first, int64_t width) const {
  const LinearLayer& linear = l.experts[expert];
  const TensorSource& source = models_.experts[expert]->source();
  const TensorInfo& info = source.get(linear.tensor);
  StoredRows rows{info.dtype, {}};
  rows.bytes.resize(static_cast<size_t>(width * linear.in) * dtype_size(info.dtype));
  source.read(info, (linear.first_row + first) * linear.in, rows.bytes);
  return rows;
}

// experts_y = X^e W_k^T, and what is left to explain on the rows that are fitted to: its
// difference to the prior's output, by the method.
Matrix LayerSolver::residuals_of(const LayerSystem& system, const RefinedLayer& l, int64_t first,
                                 const PackedWeight& prior, Matrix& experts_y) {
  const Streams& x = system.x;
  const int64_t fit = system.text.fit_rows, width = prior.out;
  const bool own =
      is(RefineMethod::kRegmeanPp);  // asks the experts about the merged model's inputs
  Matrix target(own ? fit : 0, width), residuals(fit, width);
  for (size_t k = 0; k < models_.experts.size(); ++k) {
    const StoredRows rows = expert_rows(l, k, first, width);
    const auto weight = backend_.pack(rows.dtype, rows.bytes.data(), width, prior.in);
    for (const Segment& s : system.text.segments) {
      if (s.expert != k) continue;
      backend_.linear(*weight, {}, x[kExperts].row(s.first_row), s.rows,
                      experts_y.row(s.first_row));
      if (own && !s.held_out) {
        backend_.linear(*weight, {}, x[kMerged].row(s.first_row), s.rows, target.row(s.first_row));
      }
    }
  }
  const Matrix& seen = x[is(RefineMethod::kRegmean) ? kExperts : kMerged];
  backend_.linear(prior, {}, seen.row(0), fit, residuals.row(0));
  for_rows(fit, models_.prior.threads(), [&](int64_t row, int64_t end) {
    const float* wanted = (own ? target : experts_y).row(row);
    float* left = residuals.row(row);
    for (int64_t i = 0; i < (end - row) * width; ++i) left[i] = wanted[i] - left[i];
  });
  return residuals;
}

// RegMean: (1 - alpha) sum_k diag(G_k) (W_k - W_0)^T, [in, width].
std::vector<double> LayerSolver::diagonal_part(const LayerSystem& system, const RefinedLayer& l,
                                               int64_t first, std::span<const float> prior) const {
  if (!is(RefineMethod::kRegmean) || settings_.alpha == 1) return {};
  const int64_t in = l.merged.in, width = static_cast<int64_t>(prior.size()) / in;
  std::vector<double> part(prior.size());
  for (const Segment& s : system.text.segments) {
    if (s.held_out) continue;
    const std::vector<double> squares = squares_of(system, s);
    const StoredRows rows = expert_rows(l, s.expert, first, width);
    std::vector<float> weights(prior.size());
    widen(rows.dtype, rows.bytes.data(), weights);
    for (int64_t c = 0; c < width; ++c) {
      for (int64_t j = 0; j < in; ++j) {
        const auto i = static_cast<size_t>(c * in + j);
        part[static_cast<size_t>(j * width + c)] +=
            (1 - settings_.alpha) * squares[static_cast<size_t>(j)] *
            (static_cast<double>(weights[i]) - static_cast<double>(prior[i]));
      }
    }
  }
  return part;
}

// Biases of the experts and of the prior; the merged one is b_0 + the mean of what its weights do
// not explain / (1 + ridge): the same least squares, for an input that is always one.
void LayerSolver::add_biases(const TextRows& text, const RefinedLayer& l, int64_t first,
                             int64_t width, Streams& y) {
  if (l.merged.bias.empty()) return;
  const auto at = [&](const Transformer& model, const LinearLayer& linear) {
    const auto all = model.source().read_floats(model.source().get(linear.bias));
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(linear.first_row + first);
    return std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(width));
  };
  for (const Segment& s : text.segments)
    add_to_rows(y[kExperts], s.first_row, s.rows,
                at(*models_.experts[s.expert], l.experts[s.expert]));
  const std::vector<float> before = at(models_.prior, l.merged);
  add_to_rows(y[kPrior], 0, y[kPrior].rows, before);
  std::vector<float> after = before;
  if (settings_.biases && is(RefineMethod::kRegression)) {
    const std::vector<double> left = mean_difference(text, y, before);
    for (size_t c = 0; c < after.size(); ++c)
      after[c] = static_cast<float>(before[c] + left[c] / (1 + settings_.ridge));
  }
  const DType dtype = models_.prior.source().get(l.merged.bias).dtype;
  const auto stored = refined_rows(l.merged.bias, l.merged.first_row + first, width, 1);
  narrow(after, dtype, stored.data());
  widen(dtype, stored.data(), after);
  add_to_rows(y[kMerged], 0, text.rows, after);
}

// The experts' outputs - (the merged one's + bias), the mean over experts and fitted tokens.
std::vector<double> LayerSolver::mean_difference(const TextRows& text, const Streams& y,
                                                 std::span<const float> bias) const {
  std::vector<double> sum(bias.size());
  double weight = 0;
  for (int64_t r = 0; r < text.fit_rows; ++r) {
    const double w = text.weights[static_cast<size_t>(r)];
    weight += w;
    const float *expert = y[kExperts].row(r), *merged = y[kMerged].row(r);
    for (size_t c = 0; c < bias.size(); ++c)
      sum[c] += w * (static_cast<double>(expert[c]) - static_cast<double>(merged[c]) -
                     static_cast<double>(bias[c]));
  }
  for (double& v : sum) v /= weight;
  return sum;
}

}  // namespace lewis
