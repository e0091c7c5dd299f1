#include "refine/layer_solver.h"

#include <algorithm>
#include <numeric>

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

// "q_proj, k_proj, v_proj": what people tell the layers of a block by.
std::string names_of(std::span<const RefinedLayer* const> layers) {
  std::string names;
  for (const RefinedLayer* layer : layers) {
    const std::string& name = layer->merged.name;
    names += (names.empty() ? "" : ", ") + name.substr(name.rfind('.') + 1);
  }
  const int64_t expert = layers[0]->merged.expert;
  return expert >= 0 ? fmt::format("{} of expert {}", names, expert) : names;
}

constexpr int64_t kStrip = 8;  // channels that are probed side by side

// Output channels of one of several layers that stand for all: strips that are spread evenly.
std::vector<int64_t> probed_channels(int64_t out, size_t layers) {
  const int64_t strips =
      std::max<int64_t>(1, kProbedChannels / kStrip / static_cast<int64_t>(layers));
  const bool all = out <= strips * kStrip;
  std::vector<int64_t> channels;
  for (int64_t strip = 0; strip < (all ? 1 : strips); ++strip) {
    for (int64_t i = 0; i < (all ? out : kStrip); ++i) channels.push_back(strip * out / strips + i);
  }
  return channels;
}

// Rows of a layer's weight as floats, [channels, in].
std::vector<float> weight_rows(const Transformer& model, const LinearLayer& l,
                               std::span<const int64_t> channels) {
  const TensorInfo& info = model.source().get(l.tensor);
  const auto in = static_cast<size_t>(l.in), size = dtype_size(info.dtype);
  std::vector<std::byte> bytes(channels.size() * in * size);
  for (size_t i = 0; i < channels.size();) {
    size_t end = i + 1;  // of channels that follow each other
    while (end < channels.size() && channels[end] == channels[end - 1] + 1) ++end;
    model.source().read(info, (l.first_row + channels[i]) * l.in,
                        std::span(bytes).subspan(i * in * size, (end - i) * in * size));
    i = end;
  }
  std::vector<float> weights(channels.size() * in);
  widen(info.dtype, bytes.data(), weights);
  return weights;
}

// to [rows, all columns] from column `first` on = a - b.
void put_difference(const Matrix& a, const Matrix& b, int64_t first, Matrix& to) {
  for (int64_t r = 0; r < a.rows; ++r) {
    for (int64_t c = 0; c < a.columns; ++c) to.row(r)[first + c] = a.row(r)[c] - b.row(r)[c];
  }
}

}  // namespace

LayerSystem::LayerSystem(LayerSolver& solver, const TextRows& rows, const Streams& inputs,
                         std::span<const RefinedLayer* const> layers)
    : text(rows), x(inputs) {
  const RefineSettings& settings = solver.settings_;
  Threads& threads = solver.models_.prior.threads();
  const bool based = std::ranges::all_of(
      layers, [](const RefinedLayer* layer) { return layer->base.has_value(); });
  const ChoiceTable table = choice_table(settings, text.held_rows() > 0, based);
  choice = table.standard();
  if (table.size() > 1) {
    const ChoiceProbe probe = solver.probe(table, text, x, layers);
    ChoiceRecord record = choose(table, text, x[kMerged], probe, solver.backend_, threads, fitted);
    choice = record.choice;
    record.layers = names_of(layers);
    const bool routed = layers[0]->merged.expert >= 0;
    if (!routed || choice != table.standard()) solver.result_.choices.push_back(std::move(record));
  } else {
    const bool regmean = solver.is(RefineMethod::kRegmean);
    const double alpha = regmean ? settings.off_diagonal : 1;
    fitted = fit_system(text, x[regmean ? kExperts : kMerged], choice.weighting,
                        {.ridge = choice.ridge, .alpha = alpha, .ranks = &solver.models_.ranks},
                        threads);
  }
  if (fitted.ridge->raised() > 0) {
    solver.result_.notes.push_back(fmt::format(
        "rho was raised to {:.3g}: the activations do not span their space", fitted.ridge->rho()));
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

// x weights^T for weights [channels, in].
Matrix LayerSolver::output_of(std::span<const float> weights, const Matrix& x) const {
  const int64_t channels = static_cast<int64_t>(weights.size()) / x.columns;
  const auto packed =
      backend_.pack(DType::kF32, std::as_bytes(weights).data(), channels, x.columns);
  Matrix y(x.rows, channels);
  backend_.linear(*packed, {}, x.row(0), x.rows, y.row(0));
  return y;
}

// What the candidates of a table are compared on, before any of `layers` is solved.
ChoiceProbe LayerSolver::probe(const ChoiceTable& table, const TextRows& text, const Streams& x,
                               std::span<const RefinedLayer* const> layers) const {
  std::vector<std::vector<int64_t>> channels;
  ChoiceProbe probe;
  int64_t columns = 0;
  for (const RefinedLayer* layer : layers) {
    channels.push_back(probed_channels(layer->merged.out, layers.size()));
    probe.channels.push_back(std::ssize(channels.back()));
    columns += probe.channels.back();
  }
  probe.wanted = probe.target = Matrix(text.rows, columns);
  const auto differs = [](double v) { return v != 1; };
  if (std::ranges::any_of(table.alphas, differs)) probe.own = Matrix(text.rows, columns);
  if (std::ranges::any_of(table.prior_scales, differs)) probe.moved = Matrix(text.rows, columns);
  int64_t first = 0;
  for (size_t l = 0; l < layers.size(); ++l) {
    probe_layer(*layers[l], channels[l], text, x, first, probe);
    first += probe.channels[l];
  }
  return probe;
}

// The columns of a layer in a probe, which begin at `first_column`.
void LayerSolver::probe_layer(const RefinedLayer& l, std::span<const int64_t> channels,
                              const TextRows& text, const Streams& x, int64_t first_column,
                              ChoiceProbe& probe) const {
  const auto count = std::ssize(channels);
  const Matrix& merged = x[kMerged];
  Matrix target(text.rows, count), own(probe.own.columns > 0 ? text.rows : 0, count);
  for (size_t k = 0; k < models_.experts.size(); ++k) {
    const auto weights = weight_rows(*models_.experts[k], l.experts[k], channels);
    const auto packed =
        backend_.pack(DType::kF32, std::as_bytes(std::span(weights)).data(), count, l.merged.in);
    for (const Segment& s : text.segments) {
      if (s.expert != k) continue;
      const auto run = [&](const Matrix& from, Matrix& to) {
        backend_.linear(*packed, {}, from.row(s.first_row), s.rows, to.row(s.first_row));
      };
      run(x[kExperts], target);
      if (own.rows > 0) run(merged, own);
    }
  }
  const Matrix prior = output_of(weight_rows(models_.prior, l.merged, channels), merged);
  for (int64_t r = 0; r < text.rows; ++r)
    std::copy_n(target.row(r), count, probe.target.row(r) + first_column);
  put_difference(target, prior, first_column, probe.wanted);
  if (own.rows > 0) put_difference(own, prior, first_column, probe.own);
  if (probe.moved.columns == 0) return;
  const Matrix base = output_of(weight_rows(*models_.base, *l.base, channels), merged);
  put_difference(prior, base, first_column, probe.moved);
}

// The prior's weights [width, in] become those that the solution is pulled towards.
void LayerSolver::pull_towards(const LayerSystem& system, const RefinedLayer& l, int64_t first,
                               std::vector<float>& weights) const {
  std::vector<int64_t> channels(weights.size() / static_cast<size_t>(l.merged.in));
  std::iota(channels.begin(), channels.end(), first);
  const std::vector<float> base = weight_rows(*models_.base, *l.base, channels);
  for (size_t i = 0; i < weights.size(); ++i) {
    const double from = base[i], change = static_cast<double>(weights[i]) - from;
    weights[i] = static_cast<float>(from + system.choice.prior_scale * change);
  }
}

// Output channels [first, first + width) of a layer: the new weights, and what all streams get.
void LayerSolver::solve_panel(const LayerSystem& system, const RefinedLayer& l, int64_t first,
                              int64_t width, Streams& y) {
  const int64_t in = l.merged.in;
  const std::span<std::byte> stored =
      refined_rows(l.merged.tensor, l.merged.first_row + first, width, in);
  const DType dtype = models_.prior.source().get(l.merged.tensor).dtype;
  auto before = backend_.pack(dtype, stored.data(), width, in);
  if (const Matrix& x = system.x[kPrior]; x.rows > 0)
    backend_.linear(*before, {}, x.row(0), x.rows, y[kPrior].row(0));

  std::vector<float> weights(static_cast<size_t>(width * in));
  widen(dtype, stored.data(), weights);
  if (system.choice.prior_scale != 1) {
    pull_towards(system, l, first, weights);
    before = backend_.pack(DType::kF32, std::as_bytes(std::span(weights)).data(), width, in);
  }
  Matrix residuals = residuals_of(system, l, first, *before, y[kExperts]);
  const std::vector<double> more = diagonal_part(system, l, first, weights);
  if (solves_bias(l)) take_biases(system, l, first, residuals);
  std::vector<double> change =
      system.fitted.ridge->solve(residuals.first_rows(system.text.fit_rows), more);
  std::vector<double> bias;
  if (solves_bias(l)) bias = leave_to_bias(system, residuals, change);
  residuals = {};
  for (size_t i = 0; i < weights.size(); ++i)
    weights[i] = static_cast<float>(static_cast<double>(weights[i]) + change[i]);
  if (!all_finite(weights))
    throw input_error("{}: refinement gives values that are not finite", l.merged.name);
  narrow(weights, dtype, stored.data());
  const auto after = backend_.pack(dtype, stored.data(), width, in);
  backend_.linear(*after, {}, system.x[kMerged].row(0), system.text.rows, y[kMerged].row(0));
  add_biases(system, l, first, width, bias, y);
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
  // A teacher's input is alpha X^e + (1 - alpha) X^m; the layer is linear, and so is its output.
  const auto alpha = static_cast<float>(system.choice.alpha);
  const bool own = alpha < 1;
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
    const float *theirs = experts_y.row(row), *wanted = own ? target.row(row) : theirs;
    float* left = residuals.row(row);
    const int64_t n = (end - row) * width;
    if (own && alpha > 0) {
      for (int64_t i = 0; i < n; ++i)
        left[i] = alpha * theirs[i] + (1 - alpha) * wanted[i] - left[i];
    } else {
      for (int64_t i = 0; i < n; ++i) left[i] = wanted[i] - left[i];
    }
  });
  return residuals;
}

// RegMean: (1 - alpha) sum_k diag(G_k) (W_k - W_0)^T, [in, width].
std::vector<double> LayerSolver::diagonal_part(const LayerSystem& system, const RefinedLayer& l,
                                               int64_t first, std::span<const float> prior) const {
  const double alpha = settings_.off_diagonal;
  if (!is(RefineMethod::kRegmean) || alpha == 1) return {};
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
            (1 - alpha) * squares[static_cast<size_t>(j)] *
            (static_cast<double>(weights[i]) - static_cast<double>(prior[i]));
      }
    }
  }
  return part;
}

// Rows [first, first + width) of a layer's bias.
std::vector<float> LayerSolver::bias_rows(const Transformer& model, const LinearLayer& linear,
                                          int64_t first, int64_t width) const {
  const auto all = model.source().read_floats(model.source().get(linear.bias));
  const auto begin = all.begin() + static_cast<std::ptrdiff_t>(linear.first_row + first);
  return {begin, begin + static_cast<std::ptrdiff_t>(width)};
}

// residuals += the expert's bias - the prior's, on the rows that are fitted to.
void LayerSolver::take_biases(const LayerSystem& system, const RefinedLayer& l, int64_t first,
                              Matrix& residuals) const {
  const std::vector<float> own = bias_rows(models_.prior, l.merged, first, residuals.columns);
  for (const Segment& s : system.text.segments) {
    if (s.held_out) continue;
    std::vector<float> difference =
        bias_rows(*models_.experts[s.expert], l.experts[s.expert], first, residuals.columns);
    for (size_t c = 0; c < own.size(); ++c) difference[c] -= own[c];
    add_to_rows(residuals, s.first_row, s.rows, difference);
  }
}

// Weights and bias are solved together: the bias belongs to an input that is always one. With D the
// solution without it, u that for residuals that are all one, and m = sum_t w_t x_t, the last row
// of the joint equations gives its change b = (sum_t w_t r_t - D m) / ((1 + ridge) sum_t w_t - u
// m), and the others give D - b u^T. `change` becomes the latter; b is returned.
std::vector<double> LayerSolver::leave_to_bias(const LayerSystem& system, const Matrix& residuals,
                                               std::vector<double>& change) const {
  const int64_t fit = system.text.fit_rows;
  Matrix ones(fit, 1);
  std::ranges::fill(ones.values, 1.0f);
  const std::vector<double> u = system.fitted.ridge->solve(ones.first_rows(fit));
  std::vector<double> m(u.size()), r(static_cast<size_t>(residuals.columns));
  double weight = 0, um = 0;
  for (int64_t t = 0; t < fit; ++t) {
    const double w = system.fitted.weights[static_cast<size_t>(t)];
    const float *x = system.x[kMerged].row(t), *left = residuals.row(t);
    weight += w;
    for (size_t j = 0; j < m.size(); ++j) m[j] += w * static_cast<double>(x[j]);
    for (size_t c = 0; c < r.size(); ++c) r[c] += w * static_cast<double>(left[c]);
  }
  for (size_t j = 0; j < m.size(); ++j) um += u[j] * m[j];
  const double own = (1 + system.choice.ridge) * weight - um;
  // Without a ridge, inputs that make a constant by themselves leave a bias nothing to do.
  if (own <= 1e-12 * weight) return std::vector<double>(r.size());
  for (size_t c = 0; c < r.size(); ++c) {
    double* row = change.data() + c * m.size();
    double bias = r[c];
    for (size_t j = 0; j < m.size(); ++j) bias -= row[j] * m[j];
    r[c] = bias / own;
    for (size_t j = 0; j < m.size(); ++j) row[j] -= r[c] * u[j];
  }
  return r;
}

// Adds the experts' biases, the prior's, and the merged one, which is the prior's + `change`
// (empty: it stays).
void LayerSolver::add_biases(const LayerSystem& system, const RefinedLayer& l, int64_t first,
                             int64_t width, std::span<const double> change, Streams& y) {
  const TextRows& text = system.text;
  if (l.merged.bias.empty()) return;
  for (const Segment& s : text.segments)
    add_to_rows(y[kExperts], s.first_row, s.rows,
                bias_rows(*models_.experts[s.expert], l.experts[s.expert], first, width));
  std::vector<float> after = bias_rows(models_.prior, l.merged, first, width);
  add_to_rows(y[kPrior], 0, y[kPrior].rows, after);
  for (size_t c = 0; c < change.size(); ++c)
    after[c] = static_cast<float>(static_cast<double>(after[c]) + change[c]);
  const DType dtype = models_.prior.source().get(l.merged.bias).dtype;
  const auto stored = refined_rows(l.merged.bias, l.merged.first_row + first, width, 1);
  narrow(after, dtype, stored.data());
  widen(dtype, stored.data(), after);
  add_to_rows(y[kMerged], 0, text.rows, after);
}

}  // namespace lewis
