#include "calibrate/output_change.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "base/error.h"
#include "calibrate/channel_sums.h"

namespace lewis {
namespace {

using Weights = std::map<std::string, std::unique_ptr<PackedWeight>, std::less<>>;
using TapKey = std::pair<Value, int64_t>;  // an input of linear layers, and the expert or kDense

// The rows that one tap saw of one model.
struct Seen {
  std::vector<float> x;       // [rows, columns]
  std::vector<int64_t> rows;  // of routed experts: which rows of the group
  int64_t count = 0, columns = 0;
};
using SeenTaps = std::map<TapKey, Seen>;

// One model's block, with its linear weights a second time.
struct LoadedBlock {
  std::shared_ptr<const BlockWeights> block;
  Weights weights;
};

class OutputComparison {
 public:
  OutputComparison(const Transformer& base, const Transformer& expert, Backend& backend,
                   std::span<const std::vector<int32_t>> sequences, const CalibrateOptions& options)
      : base_(base), expert_(expert), backend_(backend), options_(options) {
    batch_ = make_batch(sequences);
    result_.protocol = Protocol::kClean;
    result_.sequences = sequences.size();
    result_.tokens = batch_.ids.size() - options.skip_first * sequences.size();
  }

  Statistics run() {
    const auto groups = group_sequences(batch_, options_.rows_per_group);
    std::vector<float> base_hidden(hidden_size()), expert_hidden(hidden_size());
    base_.embed_once(batch_.ids, base_hidden);
    expert_.embed_once(batch_.ids, expert_hidden);
    for (int64_t layer = 0; layer < base_.spec().layers; ++layer) {
      const LoadedBlock in_base = load(base_, layer), in_expert = load(expert_, layer);
      for (const auto& [first, last] : groups) {
        const auto rows = sequences_of(first, last);
        const SeenTaps b = run_block(base_, in_base, rows, rows_of(base_hidden, first, last));
        const SeenTaps e = run_block(expert_, in_expert, rows, rows_of(expert_hidden, first, last));
        for (const LinearLayer& linear : linear_layers(base_.spec(), layer))
          compare(linear, in_base.weights, in_expert.weights, b, e, counted(rows));
        advance(rows_of(base_hidden, first, last).size());
      }
    }
    return std::move(result_);
  }

 private:
  size_t width() const { return static_cast<size_t>(base_.spec().hidden); }
  size_t hidden_size() const { return batch_.ids.size() * width(); }

  // The group's sequences, as rows of the group.
  std::vector<SequenceRows> sequences_of(size_t first, size_t last) const {
    std::vector<SequenceRows> rows(batch_.sequences.begin() + static_cast<std::ptrdiff_t>(first),
                                   batch_.sequences.begin() + static_cast<std::ptrdiff_t>(last));
    for (SequenceRows& r : rows) r.first_row -= batch_.sequences[first].first_row;
    return rows;
  }

  std::span<float> rows_of(std::vector<float>& hidden, size_t first, size_t last) const {
    const SequenceRows &begin = batch_.sequences[first], &end = batch_.sequences[last - 1];
    return std::span(hidden).subspan(
        static_cast<size_t>(begin.first_row) * width(),
        static_cast<size_t>(end.first_row + end.rows - begin.first_row) * width());
  }

  std::vector<bool> counted(const std::vector<SequenceRows>& rows) const {
    std::vector<bool> counts;
    for (const SequenceRows& r : rows) {
      counts.insert(counts.end(), static_cast<size_t>(r.rows), true);
      for (uint64_t i = 0; i < options_.skip_first; ++i)
        counts[static_cast<size_t>(r.first_row) + i] = false;
    }
    return counts;
  }

  LoadedBlock load(const Transformer& model, int64_t layer) {
    LoadedBlock block;
    std::map<std::string, bool> wanted;
    for (const LinearLayer& linear : linear_layers(model.spec(), layer))
      wanted[linear.name] = is_measured(linear);
    block.block = model.load_block(
        layer,
        [&](std::string_view name, std::span<float> weight, int64_t out, int64_t in) {
          if (!wanted.at(std::string(name))) return;
          block.weights[std::string(name)] =
              backend_.pack(DType::kF32, std::as_bytes(weight).data(), out, in);
        },
        ReadExperts::kWithBlock);
    return block;
  }

  static SeenTaps run_block(const Transformer& model, const LoadedBlock& block,
                            const std::vector<SequenceRows>& rows, std::span<float> hidden) {
    SeenTaps seen;
    model.run_block(*block.block, rows, hidden, [&](const Tapped& tapped) {
      Seen& s = seen[{tapped.value, tapped.expert}];
      s.x.assign(tapped.x.data, tapped.x.data + tapped.x.rows * tapped.x.columns);
      s.rows.assign(tapped.rows.begin(), tapped.rows.end());
      s.count = tapped.x.rows;
      s.columns = tapped.x.columns;
    });
    return seen;
  }

  // Rows of both that are the same token and count: places in `b` and in `e`.
  static std::vector<std::pair<int64_t, int64_t>> common(const Seen& b, const Seen& e,
                                                         const std::vector<bool>& counts) {
    std::vector<std::pair<int64_t, int64_t>> pairs;
    const bool routed = !b.rows.empty() || !e.rows.empty();
    for (int64_t i = 0, j = 0; i < b.count && j < e.count;) {
      const int64_t x = routed ? b.rows[static_cast<size_t>(i)] : i;
      const int64_t y = routed ? e.rows[static_cast<size_t>(j)] : j;
      if (x == y && counts[static_cast<size_t>(x)]) pairs.emplace_back(i, j);
      i += x <= y;
      j += y <= x;
    }
    return pairs;
  }

  static std::vector<float> gathered(const Seen& s, const auto& pairs, auto which) {
    std::vector<float> x;
    x.reserve(pairs.size() * static_cast<size_t>(s.columns));
    for (const auto& pair : pairs) {
      const auto from = s.x.begin() + pair.*which * s.columns;
      x.insert(x.end(), from, from + s.columns);
    }
    return x;
  }

  std::vector<float> product(const PackedWeight& weight, const std::vector<float>& x,
                             size_t rows) const {
    std::vector<float> y(rows * static_cast<size_t>(weight.out));
    backend_.linear(weight, {}, x.data(), static_cast<int64_t>(rows), y.data());
    return y;
  }

  void compare(const LinearLayer& linear, const Weights& base, const Weights& expert,
               const SeenTaps& in_base, const SeenTaps& in_expert,
               const std::vector<bool>& counts) {
    if (!is_measured(linear)) return;
    OutputChange& change = result_.output_changes[linear.name];
    const TapKey key = {linear.input, linear.expert >= 0 ? linear.expert : kDense};
    const auto b = in_base.find(key), e = in_expert.find(key);
    if (b == in_base.end() || e == in_expert.end()) return;  // an expert that nothing was sent to
    using Pair = std::pair<int64_t, int64_t>;
    const auto pairs = common(b->second, e->second, counts);
    if (pairs.empty()) return;
    const auto x =
        product(*base.at(linear.name), gathered(b->second, pairs, &Pair::first), pairs.size());
    const auto y =
        product(*expert.at(linear.name), gathered(e->second, pairs, &Pair::second), pairs.size());
    add(change, x, y, pairs.size());
    if (!std::isfinite(change.changed) || !std::isfinite(change.base)) {
      throw input_error("{}: the calibration text drives its output to infinity or NaN",
                        linear.name);
    }
  }

  // Row by row on all threads, then in the order of the rows.
  void add(OutputChange& change, const std::vector<float>& x, const std::vector<float>& y,
           size_t rows) const {
    const size_t columns = x.size() / rows;
    std::vector<std::pair<double, double>> sums(rows);
    base_.threads().run(rows, [&](size_t r) {
      double changed = 0, all = 0;
      for (size_t i = r * columns; i < (r + 1) * columns; ++i) {
        const double was = x[i], difference = static_cast<double>(y[i]) - was;
        changed += difference * difference;
        all += was * was;
      }
      sums[r] = {changed, all};
    });
    for (const auto& [changed, all] : sums) {
      change.changed += changed;
      change.base += all;
    }
    change.tokens += static_cast<int64_t>(rows);
  }

  void advance(size_t values) {
    done_ += values / width();
    if (!options_.progress) return;
    const auto layers = static_cast<uint64_t>(base_.spec().layers);
    options_.progress({"comparing", "tokens", done_, batch_.ids.size() * layers});
  }

  const Transformer &base_, &expert_;
  Backend& backend_;
  const CalibrateOptions& options_;
  TokenBatch batch_;
  Statistics result_;
  uint64_t done_ = 0;
};

bool same_layers(const ModelSpec& a, const ModelSpec& b) {
  if (a.layers != b.layers || a.hidden != b.hidden) return false;
  for (int64_t layer = 0; layer < a.layers; ++layer) {
    const auto same = [](const LinearLayer& x, const LinearLayer& y) {
      return x.name == y.name && x.out == y.out && x.in == y.in;
    };
    if (!std::ranges::equal(linear_layers(a, layer), linear_layers(b, layer), same)) return false;
  }
  return true;
}

void check_memory(const Transformer& model, uint64_t tokens, const CalibrateOptions& options) {
  if (options.max_memory == 0) return;
  const auto rows = std::min<uint64_t>(tokens, static_cast<uint64_t>(options.rows_per_group));
  const uint64_t states = tokens * static_cast<uint64_t>(model.spec().hidden) * sizeof(float);
  const uint64_t block = 2 * model.block_reading_bytes() +
                         4 * model.packed_block_bytes(ReadExperts::kWithBlock) +
                         3 * model.activation_bytes(static_cast<int64_t>(rows));
  const uint64_t bytes =
      64'000'000 + 2 * states + std::max(block, 2 * model.embedding_reading_bytes());
  if (bytes > options.max_memory) {
    throw resource_error("--max-memory {}: importance activation_shift needs {} bytes",
                         options.max_memory, bytes);
  }
}

}  // namespace

Statistics output_changes(const Transformer& base, const Transformer& expert, Backend& backend,
                          std::span<const std::vector<int32_t>> sequences,
                          const CalibrateOptions& options) {
  if (options.protocol != Protocol::kClean) {
    throw usage_error(
        "importance activation_shift compares the models as they are: it needs the protocol clean");
  }
  if (!same_layers(base.spec(), expert.spec())) {
    throw input_error(
        "importance activation_shift needs base and expert with the same linear layers; their "
        "config.json differ");
  }
  check_calibration(base, sequences, options);
  uint64_t tokens = 0;
  for (const auto& ids : sequences) tokens += ids.size();
  check_memory(base, tokens, options);
  return OutputComparison(base, expert, backend, sequences, options).run();
}

}  // namespace lewis
