#include "calibrate/calibrate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "base/error.h"
#include "calibrate/channel_sums.h"
#include "calibrate/probe.h"

namespace lewis {
namespace {

// Where the input of each of linear_names' modules is tapped: q, k, v, o, gate, up, down.
constexpr std::array kTapOfLinear = {Tap::kAttentionIn,  Tap::kAttentionIn, Tap::kAttentionIn,
                                     Tap::kAttentionOut, Tap::kMlpIn,       Tap::kMlpIn,
                                     Tap::kMlpDown};
constexpr size_t kTaps = 4;

using TapSums = std::array<std::vector<double>, kTaps>;  // of one block

// The sequences of one group, as rows of the group's part of the hidden states.
struct Group {
  int64_t first_row = 0, rows = 0;
  std::vector<SequenceRows> sequences;
  std::vector<RowRange> counted;
};

class Calibration {
 public:
  Calibration(const Transformer& model, std::span<const std::vector<int32_t>> sequences,
              const CalibrateOptions& options)
      : model_(model), options_(options), batch_(make_batch(sequences)) {
    for (const auto& [first, last] : group_sequences(batch_, options.rows_per_group)) {
      groups_.push_back(make_group(first, last));
    }
    hidden_.resize(batch_.ids.size() * static_cast<size_t>(model.spec().hidden));
    model.embed(batch_.ids, hidden_);
    result_.protocol = options.protocol;
    result_.sequences = sequences.size();
    for (const Group& group : groups_) {
      for (const auto& [first, last] : group.counted) result_.tokens += last - first;
    }
  }

  Statistics run() {
    const int64_t layers = model_.spec().layers;
    for (int64_t layer = 0; layer < layers; ++layer) {
      const bool clean = options_.protocol == Protocol::kClean;
      const TapSums sums = clean ? run_clean(layer) : run_reference(layer);
      const std::vector<std::string> names = linear_names(model_.spec(), layer);
      for (size_t i = 0; i < names.size(); ++i) {
        result_.sum_squares[names[i]] = sums[static_cast<size_t>(kTapOfLinear.at(i))];
        check_finite(names[i]);
      }
    }
    return std::move(result_);
  }

 private:
  Group make_group(size_t first, size_t last) const {
    Group group;
    group.first_row = batch_.sequences[first].first_row;
    for (size_t s = first; s < last; ++s) {
      SequenceRows rows = batch_.sequences[s];
      rows.first_row -= group.first_row;
      group.sequences.push_back(rows);
      group.counted.push_back(
          {rows.first_row + (options_.skip_first_token ? 1 : 0), rows.first_row + rows.rows});
      group.rows += rows.rows;
    }
    return group;
  }

  std::span<float> hidden_of(const Group& group) {
    const auto width = static_cast<size_t>(model_.spec().hidden);
    return std::span(hidden_).subspan(group.first_row * width, group.rows * width);
  }

  TapFn tap_into(TapSums& sums, const Group& group) const {
    return [this, &sums, &group](Tap tap, ConstMatrix x) {
      std::vector<double>& s = sums[static_cast<size_t>(tap)];
      s.resize(static_cast<size_t>(x.columns));
      add_squares(model_.threads(), x, group.counted, s);
    };
  }

  TapSums run_clean(int64_t layer) {
    TapSums sums;
    const auto block = model_.load_block(layer);
    for (const Group& group : groups_) {
      model_.run_block(*block, group.sequences, hidden_of(group), tap_into(sums, group));
      advance(group);
    }
    return sums;
  }

  // The taps see the block as it is, run on a copy; the next block's inputs are the outputs of the
  // pruned block.
  TapSums run_reference(int64_t layer) {
    TapSums sums;
    const bool last = layer + 1 == model_.spec().layers;  // nobody needs its pruned outputs
    {
      const auto block = model_.load_block(layer);
      std::vector<float> copy;
      for (const Group& group : groups_) {
        const std::span<const float> hidden = hidden_of(group);
        copy.assign(hidden.begin(), hidden.end());
        model_.run_block(*block, group.sequences, copy, tap_into(sums, group));
        if (last) advance(group);
      }
    }
    if (last) return sums;
    const auto pruned = model_.load_block(layer, prune_by(layer, sums));
    for (const Group& group : groups_) {
      model_.run_block(*pruned, group.sequences, hidden_of(group));
      advance(group);
    }
    return sums;
  }

  // s_j in float, a mean over sequences, as the published program has it.
  WeightEdit prune_by(int64_t layer, const TapSums& sums) const {
    return [this, &sums, names = linear_names(model_.spec(), layer)](
               std::string_view module, std::span<float> weight, int64_t out, int64_t in) {
      const auto name = std::find(names.begin(), names.end(), module);
      if (name == names.end()) return;
      const auto& sum = sums[static_cast<size_t>(kTapOfLinear.at(name - names.begin()))];
      std::vector<float> s(sum.size());
      std::transform(sum.begin(), sum.end(), s.begin(),
                     [n = result_.divisor()](double v) { return static_cast<float>(v / n); });
      prune_rows(model_.threads(), weight, out, in, s, options_.sparsity);
    };
  }

  void check_finite(const std::string& module) const {
    const auto& sums = result_.sum_squares.at(module);
    if (std::all_of(sums.begin(), sums.end(), [](double v) { return std::isfinite(v); })) return;
    throw input_error(
        "{}: the calibration text drives its input to infinity or NaN; the weights before it are "
        "too large for float32 or damaged",
        module);
  }

  void advance(const Group& group) {
    done_ += static_cast<uint64_t>(group.rows);
    if (!options_.progress) return;
    const uint64_t layers = static_cast<uint64_t>(model_.spec().layers);
    options_.progress({"calibrating", "tokens", done_, batch_.ids.size() * layers});
  }

  const Transformer& model_;
  const CalibrateOptions& options_;
  TokenBatch batch_;
  std::vector<Group> groups_;
  std::vector<float> hidden_;  // [all tokens, hidden]
  Statistics result_;
  uint64_t done_ = 0;
};

void check_input(const Transformer& model, std::span<const std::vector<int32_t>> sequences,
                 const CalibrateOptions& options) {
  if (!(options.sparsity >= 0 && options.sparsity <= 1)) {
    throw usage_error("sparsity {} is outside [0, 1]", options.sparsity);
  }
  const bool skip = options.skip_first_token;
  if (skip && options.protocol == Protocol::kReference) {
    throw usage_error(
        "skip_first_token belongs to the clean protocol; reference counts all tokens");
  }
  if (sequences.empty()) throw input_error("the calibration set holds no sequences");
  const int64_t most = model.spec().max_positions, least = skip ? 2 : 1;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto length = static_cast<int64_t>(sequences[i].size());
    if (length < least || length > most) {
      throw input_error(
          "calibration sequence {} has {} tokens, expected {} to {} (the model's "
          "positions)",
          i, length, least, most);
    }
  }
}

}  // namespace

Statistics calibrate(const Transformer& model, std::span<const std::vector<int32_t>> sequences,
                     const CalibrateOptions& options) {
  check_input(model, sequences, options);
  return Calibration(model, sequences, options).run();
}

}  // namespace lewis
