#include "refine/block.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "base/error.h"
#include "refine/layer_solver.h"

namespace lewis {
namespace {

constexpr int64_t kRowsPerGroup = 2048;  // that go through attention together
constexpr int64_t kFewestRows = 100;     // that a routed expert is fitted to

// Rows of one stream that go through one model.
struct Part {
  StreamIndex stream;
  const Transformer* model;
  const BlockWeights* norms;
  const Segment* segment;
  int64_t first_row;  // in the stream
};

// || y - expert ||^2 / || expert ||^2 with the tokens' weights, the mean over the experts.
class OutputError {
 public:
  explicit OutputError(const TextRows& text) : text_(text), sums_(text.segments.size()) {}

  // Rows of `s` from first_row on, [rows, columns] each.
  void add(const Segment& s, int64_t first_row, int64_t columns, std::span<const float> y,
           const float* expert) {
    Sums& sums = sums_[static_cast<size_t>(&s - text_.segments.data())];
    const int64_t rows = static_cast<int64_t>(y.size()) / columns;
    for (int64_t r = 0; r < rows; ++r) {
      const double w = text_.weights[static_cast<size_t>(first_row + r)];
      for (int64_t c = 0; c < columns; ++c) {
        const double e = expert[r * columns + c], d = y[static_cast<size_t>(r * columns + c)] - e;
        sums.difference += w * d * d;
        sums.size += w * e * e;
      }
    }
  }

  double value() const {
    double value = 0;
    int64_t segments = 0;
    for (const Sums& s : sums_) {
      if (s.size == 0) continue;
      value += s.difference / s.size;
      ++segments;
    }
    return segments ? value / static_cast<double>(segments) : 0;
  }

 private:
  struct Sums {
    double difference = 0, size = 0;
  };
  const TextRows& text_;
  std::vector<Sums> sums_;  // of each segment
};

class Block {
 public:
  Block(const RefineModels& models, const TextRows& text, const RefineSettings& settings,
        int64_t layer, const StreamPair& in, StreamPair& out,
        const std::function<void(uint64_t)>& step)
      : models_(models),
        spec_(models.prior.spec()),
        text_(text),
        settings_(settings),
        layer_(layer),
        in_(in),
        out_(out),
        step_(step),
        solver_(models, settings, result_, step) {
    find_layers();
    make_parts();
  }

  BlockResult run() {
    layer_ < spec_.layers ? run_block() : run_head();
    return std::move(result_);
  }

 private:
  void run_block() {
    Streams x = attention_inputs();
    Streams mixed = attention(x);
    if (!spec_.parallel) x = {};
    Streams projected = project(LinearRole::kOutput, mixed);
    mixed = {};
    add(projected, false);
    if (!spec_.parallel) x = mlp_inputs();
    if (spec_.layer[static_cast<size_t>(layer_)].routed) {
      projected = experts(x);
    } else {
      Streams inner = mlp(LayerSystem(solver_, text_, x), kDense);
      x = {};
      projected = project(LinearRole::kDown, inner);
    }
    add(projected, true);
    decide();
  }

  // Logits are compared panel by panel: they are never there whole.
  void run_head() {
    Streams x = streams(spec_.hidden);
    for (const Part& part : parts_) {
      for_hidden(part, false, [&](int64_t first, std::span<float> hidden) {
        part.model->head_input(hidden, x[part.stream].row(part.first_row + first));
      });
    }
    const LayerSystem system(solver_, text_, x);
    OutputError solved(text_), prior(text_);
    for (int64_t first = 0; first < spec_.vocab; first += kPanel) {
      const int64_t columns = std::min(kPanel, spec_.vocab - first);
      Streams y = streams(columns);
      solver_.solve_panel(system, layers_[0], first, columns, y);
      for (const Segment& s : text_.segments) {
        if (s.held_out != (text_.held_rows() > 0)) continue;
        const auto values = static_cast<size_t>(s.rows * columns);
        const float* expert = y[kExperts].row(s.first_row);
        solved.add(s, s.first_row, columns, {y[kMerged].row(s.first_row), values}, expert);
        if (s.held_out)
          prior.add(s, s.first_row, columns, {y[kPrior].row(s.first_row - text_.fit_rows), values},
                    expert);
      }
    }
    result_.error_solved = solved.value();
    result_.error_prior = prior.value();
    result_.kept_prior = text_.held_rows() > 0 && result_.error_prior < result_.error_solved;
    if (result_.kept_prior) result_.tensors.clear();
  }

  // The last step is the head, if there is one of its own.
  std::vector<LinearLayer> linears_of(const Transformer& model) const {
    if (layer_ < spec_.layers) return linear_layers(model.spec(), layer_);
    return {model.untied_head().value()};
  }

  void find_layers() {
    const auto merged = linears_of(models_.prior);
    for (size_t i = 0; i < merged.size(); ++i) {
      RefinedLayer layer{merged[i], {}};
      for (const Transformer* expert : models_.experts)
        layer.experts.push_back(linears_of(*expert).at(i));
      layers_.push_back(std::move(layer));
    }
  }

  const RefinedLayer* find(LinearRole role, int64_t expert = kDense) const {
    for (const RefinedLayer& l : layers_) {
      if (l.merged.role == role && l.merged.expert == expert) return &l;
    }
    return nullptr;
  }

  void make_parts() {
    const auto load = [&](const Transformer& model) {
      norms_.push_back(layer_ < spec_.layers ? model.load_norms(layer_) : nullptr);
    };
    load(models_.prior);
    for (const Transformer* expert : models_.experts) load(*expert);
    for (const Segment& s : text_.segments) {
      parts_.push_back(
          {kExperts, models_.experts[s.expert], norms_[s.expert + 1].get(), &s, s.first_row});
      parts_.push_back({kMerged, &models_.prior, norms_[0].get(), &s, s.first_row});
      if (s.held_out) {
        parts_.push_back(
            {kPrior, &models_.prior, norms_[0].get(), &s, s.first_row - text_.fit_rows});
      }
    }
  }

  Streams streams(int64_t columns) const {
    return {Matrix(text_.rows, columns), Matrix(text_.rows, columns),
            Matrix(text_.held_rows(), columns)};
  }

  // The hidden states that a part begins with, or, from `next`, goes on with.
  void read_hidden(const Part& part, bool next, int64_t row, std::span<float> values) const {
    const StreamPair& pair = next ? out_ : in_;
    if (part.stream == kPrior && next) {
      std::copy_n(prior_hidden_.row(part.first_row + row), values.size(), values.begin());
    } else {
      const HiddenStates& states = part.stream == kExperts ? pair.experts : pair.merged;
      states.read(part.segment->first_row + row, values);
    }
  }

  void write_hidden(const Part& part, int64_t row, std::span<const float> values) {
    if (part.stream == kPrior) {
      std::ranges::copy(values, prior_hidden_.row(part.first_row + row));
    } else {
      HiddenStates& states = part.stream == kExperts ? out_.experts : out_.merged;
      states.write(part.segment->first_row + row, values);
    }
  }

  // f(first row of the part, hidden states) over pieces of a part.
  template <typename F>
  void for_hidden(const Part& part, bool next, const F& f) {
    for (int64_t first = 0; first < part.segment->rows; first += kRowsPerGroup) {
      const int64_t rows = std::min(kRowsPerGroup, part.segment->rows - first);
      hidden_.resize(static_cast<size_t>(rows * spec_.hidden));
      read_hidden(part, next, first, hidden_);
      f(first, std::span(hidden_));
    }
  }

  Streams attention_inputs() {
    Streams x = streams(spec_.hidden);
    for (const Part& part : parts_) {
      for_hidden(part, false, [&](int64_t first, std::span<float> hidden) {
        part.model->attention_input(*part.norms, hidden,
                                    x[part.stream].row(part.first_row + first));
      });
    }
    solve_norm(spec_.norms.before_attention, x);
    return x;
  }

  Streams mlp_inputs() {
    Streams x = streams(spec_.hidden);
    for (const Part& part : parts_) {
      for_hidden(part, true, [&](int64_t first, std::span<float> hidden) {
        part.model->mlp_input(*part.norms, hidden, x[part.stream].row(part.first_row + first));
      });
    }
    solve_norm(spec_.norms.before_mlp, x);
    return x;
  }

  // A norm's weight is a least-squares problem of its own for each channel j: the factor c on it
  // that minimises sum_t w (c x^m_tj - x^e_tj)^2 + ridge sum_t w (x^m_tj)^2 (c - 1)^2. Norms with a
  // bias stay.
  void solve_norm(std::string_view norm, Streams& x) {
    if (!settings_.norms || !solver_.is(RefineMethod::kRegression) || norm.empty() ||
        spec_.norm.bias)
      return;
    const std::string name = fmt::format("{}layers.{}.{}.weight", spec_.prefix, layer_, norm);
    const TensorInfo& info = models_.prior.source().get(name);
    std::vector<float> weights = models_.prior.source().read_floats(info);
    const std::vector<float> before = weights;
    const auto width = static_cast<size_t>(spec_.hidden);
    std::vector<double> squares(width), products(width);
    for (int64_t r = 0; r < text_.fit_rows; ++r) {
      const double w = text_.weights[static_cast<size_t>(r)];
      const float *merged = x[kMerged].row(r), *expert = x[kExperts].row(r);
      for (size_t j = 0; j < width; ++j) {
        squares[j] += w * merged[j] * merged[j];
        products[j] += w * merged[j] * expert[j];
      }
    }
    const double one = spec_.norm.plus_one ? 1 : 0;
    for (size_t j = 0; j < width; ++j) {
      if (squares[j] == 0) continue;
      const double c = (products[j] / squares[j] + settings_.ridge) / (1 + settings_.ridge);
      weights[j] = static_cast<float>(weights[j] + (c - 1) * (weights[j] + one));
    }
    const auto stored = solver_.refined_rows(name, 0, spec_.hidden, 1);
    narrow(weights, info.dtype, stored.data());
    widen(info.dtype, stored.data(), weights);
    std::vector<float> factors(width, 1.0f);
    for (size_t j = 0; j < width; ++j) {
      const double was = before[j] + one;
      if (was != 0) factors[j] = static_cast<float>((weights[j] + one) / was);
    }
    for (int64_t r = 0; r < text_.rows; ++r) {
      for (size_t j = 0; j < width; ++j) x[kMerged].row(r)[j] *= factors[j];
    }
  }

  // Adds what attention or the MLP came to to the hidden states.
  void add(Streams& projected, bool of_mlp) {
    if (!of_mlp) prior_hidden_ = Matrix(text_.held_rows(), spec_.hidden);
    for (const Part& part : parts_) {
      float* output = projected[part.stream].row(part.first_row);
      of_mlp ? part.model->norm_mlp(*part.norms, part.segment->rows, output)
             : part.model->norm_attention(*part.norms, part.segment->rows, output);
    }
    solve_norm(of_mlp ? spec_.norms.after_mlp : spec_.norms.after_attention, projected);
    for (const Part& part : parts_) {
      for_hidden(part, of_mlp, [&](int64_t first, std::span<float> hidden) {
        part.model->add_output(projected[part.stream].row(part.first_row + first),
                               static_cast<int64_t>(hidden.size()) / spec_.hidden, hidden.data());
        write_hidden(part, first, hidden);
      });
    }
  }

  // q, k, v and what attention makes of them: [rows, heads, head_dim].
  Streams attention(const Streams& x) {
    const int64_t width = spec_.heads * spec_.head_dim, kv_width = spec_.kv_heads * spec_.head_dim;
    Streams q = streams(width), k = streams(kv_width), v = streams(kv_width);
    {
      const LayerSystem system(solver_, text_, x);
      for (auto& [role, y] :
           {std::pair(LinearRole::kQuery, &q), {LinearRole::kKey, &k}, {LinearRole::kValue, &v}}) {
        solver_.solve(system, *find(role), *y);
      }
    }
    for (const Part& part : parts_) mix(part, q[part.stream], k[part.stream], v[part.stream]);
    return q;
  }

  // Attention in place of the queries, some sequences at a time.
  void mix(const Part& part, Matrix& q, Matrix& k, Matrix& v) {
    std::vector<SequenceRows> group;
    int64_t first = 0, rows = 0;
    const auto run = [&] {
      if (rows == 0) return;
      const int64_t at = part.first_row + first;
      Matrix mixed(rows, q.columns);
      part.model->mix(*part.norms, group, rows, q.row(at), k.row(at), v.row(at), mixed.row(0));
      std::ranges::copy(mixed.values, q.row(at));
      group.clear();
      first += rows;
      rows = 0;
    };
    for (SequenceRows s : part.segment->sequences) {
      if (rows + s.rows > kRowsPerGroup) run();
      s.first_row -= first;
      group.push_back(s);
      rows += s.rows;
    }
    run();
  }

  Streams project(LinearRole role, const Streams& x) {
    Streams y = streams(spec_.hidden);
    solver_.solve(LayerSystem(solver_, text_, x), *find(role), y);
    return y;
  }

  // act(gate(x)) * up(x), panel by panel: gate and up are never there whole.
  Streams mlp(const LayerSystem& system, int64_t expert) {
    const Streams& x = system.x;
    const RefinedLayer* gate = find(LinearRole::kGate, expert);
    const RefinedLayer& up = *find(LinearRole::kUp, expert);
    Streams inner = like(x, up.merged.out);
    for (int64_t first = 0; first < up.merged.out; first += kPanel) {
      const int64_t width = std::min(kPanel, up.merged.out - first);
      Streams a = like(x, width), b = gate ? like(x, width) : Streams();
      if (gate) solver_.solve_panel(system, *gate, first, width, b);
      solver_.solve_panel(system, up, first, width, a);
      Streams& result = gate ? b : a;
      for (const size_t s : {kExperts, kMerged, kPrior}) {
        models_.prior.activate(result[s].row(0), gate ? a[s].row(0) : nullptr,
                               static_cast<int64_t>(result[s].values.size()));
      }
      put(result, first, inner, models_.prior.threads());
    }
    return inner;
  }

  // What the experts of all streams come to. Those of the experts' streams and of the prior's run
  // as they are, each by its own router; the merged stream's router is the prior's, and a routed
  // expert is solved on the tokens that it sends there, for which the models to reproduce are asked
  // what their expert of that number makes of the token, wherever they send it themselves.
  Streams experts(const Streams& x) {
    Streams y = streams(spec_.hidden);
    std::ranges::fill(y[kMerged].values, 0.0f);
    for (const Transformer* expert : models_.experts) run_unsolved(*expert, kExperts, x, y);
    const std::vector<RoutedRows> routed = run_prior_experts(x, y);
    int64_t few = 0;
    for (int64_t e = 0; e < spec_.experts.count; ++e) {
      const RoutedRows& its = routed[static_cast<size_t>(e)];
      solves(its) ? solve_expert(e, its, x, y[kMerged]) : skip_expert(e, few);
    }
    if (few > 0) {
      result_.notes.push_back(
          fmt::format("{} of {} routed experts see fewer than {} tokens: left as merged", few,
                      spec_.experts.count, kFewestRows));
    }
    step_(static_cast<uint64_t>(spec_.experts.count * spec_.hidden));  // the router
    if (spec_.experts.shared_intermediate) add_shared_expert(x, y[kMerged]);
    return y;
  }

  // Whether there are enough tokens to fit to.
  bool solves(const RoutedRows& routed) const {
    return std::ranges::count_if(routed.rows, [&](int64_t r) {
             return r < text_.fit_rows && text_.weights[static_cast<size_t>(r)] > 0;
           }) >= kFewestRows;
  }

  void skip_expert(int64_t expert, int64_t& few) {
    ++few;
    for (const RefinedLayer& l : layers_) {
      if (l.merged.expert == expert) step_(static_cast<uint64_t>(l.merged.out * l.merged.in));
    }
  }

  // The parts of a stream that go through `model`, by its weights.
  std::shared_ptr<const BlockWeights> run_unsolved(const Transformer& model, StreamIndex stream,
                                                   const Streams& x, Streams& y) {
    auto block = model.load_block(layer_);
    for (const Part& part : parts_) {
      if (part.stream != stream || part.model != &model) continue;
      for (int64_t first = 0; first < part.segment->rows; first += kRowsPerGroup) {
        const int64_t at = part.first_row + first;
        model.mlp_output(*block, std::min(kRowsPerGroup, part.segment->rows - first),
                         x[stream].row(at), y[stream].row(at));
      }
    }
    return block;
  }

  // Of the held-out tokens all of them; of the merged stream the choice of the router, and the
  // experts that see too little to be solved.
  std::vector<RoutedRows> run_prior_experts(const Streams& x, Streams& y) {
    const auto block = run_unsolved(models_.prior, kPrior, x, y);
    std::vector<RoutedRows> routed = models_.prior.route(*block, text_.rows, x[kMerged].row(0));
    for (size_t e = 0; e < routed.size(); ++e) {
      if (routed[e].rows.empty() || solves(routed[e])) continue;
      const Matrix its = gather(x[kMerged], routed[e].rows);
      Matrix output(its.rows, spec_.hidden);
      models_.prior.expert_output(*block, static_cast<int64_t>(e), its.rows, its.row(0),
                                  output.row(0));
      scatter(output, routed[e], y[kMerged]);
    }
    return routed;
  }

  void solve_expert(int64_t expert, const RoutedRows& routed, const Streams& x, Matrix& merged) {
    const TextRows text = select_rows(text_, routed.rows);
    Streams inner;
    {
      const Streams its = {gather(x[kExperts], routed.rows), gather(x[kMerged], routed.rows), {}};
      inner = mlp(LayerSystem(solver_, text, its), expert);
    }
    Streams y = like(inner, spec_.hidden);
    solver_.solve(LayerSystem(solver_, text, inner), *find(LinearRole::kDown, expert), y);
    scatter(y[kMerged], routed, merged);
  }

  // merged += sigmoid(switch(x)) * shared expert(x).
  void add_shared_expert(const Streams& x, Matrix& merged) {
    Streams inner, switches = streams(1);
    {
      const LayerSystem system(solver_, text_, x);
      inner = mlp(system, kShared);
      solver_.solve(system, *find(LinearRole::kSharedSwitch), switches);
    }
    Streams y = streams(spec_.hidden);
    solver_.solve(LayerSystem(solver_, text_, inner), *find(LinearRole::kDown, kShared), y);
    for (int64_t r = 0; r < merged.rows; ++r) {
      const float open = 1.0f / (1.0f + std::exp(-switches[kMerged].row(r)[0]));
      for (int64_t c = 0; c < merged.columns; ++c) merged.row(r)[c] += open * y[kMerged].row(r)[c];
    }
  }

  static Matrix gather(const Matrix& x, std::span<const int64_t> rows) {
    Matrix some(static_cast<int64_t>(rows.size()), x.columns);
    for (int64_t i = 0; i < some.rows; ++i)
      std::copy_n(x.row(rows[static_cast<size_t>(i)]), x.columns, some.row(i));
    return some;
  }

  static void scatter(const Matrix& output, const RoutedRows& routed, Matrix& y) {
    for (int64_t i = 0; i < output.rows; ++i) {
      const auto at = static_cast<size_t>(i);
      for (int64_t c = 0; c < y.columns; ++c)
        y.row(routed.rows[at])[c] += routed.weights[at] * output.row(i)[c];
    }
  }

  // Whether the held-out tokens are better served by the solved weights or by the prior.
  void decide() {
    const bool held = text_.held_rows() > 0;
    result_.error_solved = output_error(kMerged, held);
    if (!held) return;
    result_.error_prior = output_error(kPrior, true);
    result_.kept_prior = result_.error_prior < result_.error_solved;
    if (!result_.kept_prior) return;
    result_.tensors.clear();
    run_prior();
  }

  double output_error(StreamIndex stream, bool held_out) {
    OutputError error(text_);
    std::vector<float> expert;
    for (const Part& part : parts_) {
      if (part.stream != stream || part.segment->held_out != held_out) continue;
      for_hidden(part, true, [&](int64_t first, std::span<float> hidden) {
        expert.resize(hidden.size());
        const int64_t begin = part.segment->first_row + first;
        out_.experts.read(begin, expert);
        error.add(*part.segment, begin, spec_.hidden, hidden, expert.data());
      });
    }
    return error.value();
  }

  // The merged stream with this block as the prior has it.
  void run_prior() {
    for (const Part& part : parts_) {
      if (part.stream != kPrior) continue;
      for_hidden(part, true, [&](int64_t first, std::span<float> hidden) {
        out_.merged.write(part.segment->first_row + first, hidden);
      });
    }
    const auto block = models_.prior.load_block(layer_);
    for (const Segment& s : text_.segments) {
      if (s.held_out) continue;
      TokenBatch batch;
      batch.sequences = s.sequences;
      for (const auto& [first, last] : group_sequences(batch, kRowsPerGroup)) {
        std::vector<SequenceRows> group(s.sequences.begin() + static_cast<std::ptrdiff_t>(first),
                                        s.sequences.begin() + static_cast<std::ptrdiff_t>(last));
        const int64_t begin = group.front().first_row;
        const int64_t rows = group.back().first_row + group.back().rows - begin;
        for (SequenceRows& g : group) g.first_row -= begin;
        hidden_.resize(static_cast<size_t>(rows * spec_.hidden));
        in_.merged.read(s.first_row + begin, hidden_);
        models_.prior.run_block(*block, group, hidden_);
        out_.merged.write(s.first_row + begin, hidden_);
      }
    }
  }

  const RefineModels& models_;
  const ModelSpec& spec_;
  const TextRows& text_;
  const RefineSettings& settings_;
  int64_t layer_;
  const StreamPair& in_;
  StreamPair& out_;
  const std::function<void(uint64_t)>& step_;
  std::vector<RefinedLayer> layers_;
  std::vector<std::shared_ptr<const BlockWeights>> norms_;  // the prior's, then the experts'
  std::vector<Part> parts_;
  std::vector<float> hidden_;  // of for_hidden
  Matrix prior_hidden_;        // [held out, hidden] of the stream kPrior
  BlockResult result_;
  LayerSolver solver_;
};

}  // namespace

bool refines_head(const RefineModels& models, const RefineSettings& settings) {
  return settings.head && models.prior.untied_head() &&
         std::ranges::all_of(models.experts, [](const Transformer* expert) {
           return expert->untied_head().has_value();
         });
}

BlockResult refine_block(const RefineModels& models, const TextRows& text,
                         const RefineSettings& settings, int64_t layer, const StreamPair& in,
                         StreamPair& out, const std::function<void(uint64_t)>& step) {
  return Block(models, text, settings, layer, in, out, step).run();
}

// As refine_block goes along: its widest moments are the MLP and its down projection.
uint64_t block_memory(const RefineModels& models, const TextRows& text,
                      const RefineSettings& settings) {
  const ModelSpec& spec = models.prior.spec();
  const auto streams = static_cast<uint64_t>(2 * text.rows + text.held_rows());  // rows
  const auto fit = static_cast<uint64_t>(text.fit_rows);
  uint64_t most = 0, tensors = 0, held = 0;
  if (refines_head(models, settings)) {
    const LinearLayer head = *models.prior.untied_head();
    tensors = static_cast<uint64_t>(head.out * head.in) *
              dtype_size(models.prior.source().get(head.tensor).dtype);
  }
  for (int64_t layer = 0; layer < spec.layers; ++layer) {
    uint64_t stored = 0;
    for (const LinearLayer& l : linear_layers(spec, layer)) {
      stored += static_cast<uint64_t>(l.out * l.in) *
                dtype_size(models.prior.source().get(l.tensor).dtype);
      const auto in = static_cast<uint64_t>(l.in), panel = std::min<uint64_t>(kPanel, l.out);
      const bool tokens =
          fit < in && (settings.method != RefineMethod::kRegmean || settings.alpha == 1);
      const uint64_t size = tokens ? fit : in;
      // x, y and, before the MLP, the panels of gate and up; the factor; right side and solution;
      // weights, packed and as floats; target and baseline.
      const uint64_t wide = l.role == LinearRole::kDown ? 0 : streams * 2 * panel;
      most = std::max(most, 4 * streams * (in + static_cast<uint64_t>(l.out)) + 4 * wide +
                                8 * size * size + 16 * (size + in) * panel + 12 * in * panel +
                                8 * fit * panel);
    }
    tensors = std::max(tensors, stored);
    if (spec.layer[static_cast<size_t>(layer)].routed) {
      // x, y and the choices of the router beside the layers, or beside a block that runs.
      held = 8 * streams * static_cast<uint64_t>(spec.hidden) +
             16 * static_cast<uint64_t>(text.rows * spec.experts.chosen);
    }
  }
  if (held > 0) {
    uint64_t block = models.prior.packed_block_bytes();
    for (const Transformer* expert : models.experts)
      block = std::max(block, expert->packed_block_bytes());
    const uint64_t rows = static_cast<uint64_t>(text.rows * (spec.experts.count + 2 * spec.hidden));
    most = held + std::max(most, block + 4 * rows + models.prior.activation_bytes(kRowsPerGroup));
  }
  constexpr uint64_t kProgram = 64'000'000;
  return kProgram + most + 2 * tensors;
}

}  // namespace lewis
