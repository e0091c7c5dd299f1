#include "calibrate/calibrate.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "calibrate/channel_sums.h"
#include "calibrate/probe.h"

namespace lewis {
namespace {

// The sums of one block, by the values that are inputs of linear layers.
struct BlockSums {
  std::map<Value, std::vector<double>> squares;     // of those that see all rows
  std::map<Value, std::vector<double>> magnitudes;  // the same of |x|, if asked for
  ExpertStatistics experts;
  Value expert_in = kNoIndex;  // what the routed experts read
};

// The sequences of one group, as rows of the group's part of the hidden states.
struct Group {
  int64_t first_row = 0, rows = 0;
  std::vector<SequenceRows> sequences;
  std::vector<RowRange> counted;
};

// The rows of a gathered matrix, row i of which is row rows[i] of the group, that are counted.
// Both lists ascend.
std::vector<RowRange> counted_of(std::span<const int64_t> rows, const std::vector<RowRange>& all) {
  std::vector<RowRange> ranges;
  size_t at = 0;
  for (int64_t i = 0; i < static_cast<int64_t>(rows.size()); ++i) {
    const int64_t row = rows[static_cast<size_t>(i)];
    while (at < all.size() && all[at].second <= row) ++at;
    if (at == all.size() || row < all[at].first) continue;
    if (!ranges.empty() && ranges.back().second == i) {
      ++ranges.back().second;
    } else {
      ranges.emplace_back(i, i + 1);
    }
  }
  return ranges;
}

class Calibration {
 public:
  Calibration(const Transformer& model, std::span<const std::vector<int32_t>> sequences,
              const CalibrateOptions& options, const CalibrationMemory& memory)
      : model_(model), options_(options), memory_(memory), sequences_(sequences) {
    result_.protocol = options.protocol;
    result_.sequences = sequences.size();
    for (const auto& ids : sequences) {
      tokens_ += ids.size();
      result_.tokens += ids.size() - (options.skip_first_token ? 1 : 0);
    }
  }

  // Sums are added in the order of the tokens, whatever the passes.
  Statistics run() {
    const int64_t layers = model_.spec().layers;
    std::vector<BlockSums> sums;
    for (int64_t layer = 0; layer < layers; ++layer) sums.push_back(empty_sums(layer));
    for (const auto& pass : memory_.passes) {
      begin_pass(pass);
      for (int64_t layer = 0; layer < layers; ++layer) {
        BlockSums& its = sums[static_cast<size_t>(layer)];
        if (options_.protocol == Protocol::kClean) {
          run_clean(layer, its);
        } else {
          run_reference(layer, its);
        }
        if (&pass == &memory_.passes.back()) keep(layer, std::exchange(its, {}));
      }
    }
    return std::move(result_);
  }

 private:
  // The hidden states of some sequences before the first block.
  void begin_pass(std::pair<size_t, size_t> pass) {
    batch_ = make_batch(sequences_.subspan(pass.first, pass.second - pass.first));
    groups_.clear();
    for (const auto& [first, last] : group_sequences(batch_, memory_.rows_per_group)) {
      groups_.push_back(make_group(first, last));
    }
    hidden_.resize(batch_.ids.size() * static_cast<size_t>(model_.spec().hidden));
    model_.embed_once(batch_.ids, hidden_);
  }

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

  // Sums of one block, all zero.
  BlockSums empty_sums(int64_t layer) const {
    BlockSums sums;
    const BlockSteps block = block_steps(model_.spec(), layer);
    const ExpertsStep* step = block.experts();
    if (!step) return sums;
    const auto width = [&](Value value) { return static_cast<size_t>(block.width(value)); };
    const size_t count = step->experts.size();
    sums.expert_in = step->expert_in;
    sums.experts.tokens.resize(count);
    sums.experts.in.resize(count * width(step->expert_in));
    sums.experts.mid.resize(count * width(step->expert_inner));
    return sums;
  }

  TapFn tap_into(BlockSums& sums, const Group& group) const {
    return [this, &sums, &group](const Tapped& tapped) {
      if (tapped.expert >= 0) return add_expert(sums, group, tapped);
      std::vector<double>& s = sums.squares[tapped.value];
      s.resize(static_cast<size_t>(tapped.x.columns));
      add_squares(model_.threads(), tapped.x, group.counted, s);
      if (!options_.magnitudes) return;
      std::vector<double>& m = sums.magnitudes[tapped.value];
      m.resize(s.size());
      add_magnitudes(model_.threads(), tapped.x, group.counted, m);
    };
  }

  void add_expert(BlockSums& sums, const Group& group, const Tapped& tapped) const {
    ExpertStatistics& experts = sums.experts;
    const auto ranges = counted_of(tapped.rows, group.counted);
    const auto expert = static_cast<size_t>(tapped.expert);
    const auto width = static_cast<size_t>(tapped.x.columns);
    const bool in = tapped.value == sums.expert_in;
    add_squares_in_order(model_.threads(), tapped.x, ranges,
                         std::span(in ? experts.in : experts.mid).subspan(expert * width, width));
    if (!in) return;
    for (const auto& [first, last] : ranges) experts.tokens[expert] += last - first;
  }

  void run_clean(int64_t layer, BlockSums& sums) {
    const auto block = model_.load_block(layer);
    if (memory_.read_ahead) model_.read_ahead(layer + 1);
    for (const Group& group : groups_) {
      model_.run_block(*block, group.sequences, hidden_of(group), tap_into(sums, group));
      advance(group);
    }
  }

  // The taps see the block as it is, run on a copy; the next block's inputs are the outputs of the
  // pruned block.
  void run_reference(int64_t layer, BlockSums& sums) {
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
    if (last) return;
    const auto pruned = model_.load_block(layer, prune_by(layer, sums));
    for (const Group& group : groups_) {
      model_.run_block(*pruned, group.sequences, hidden_of(group));
      advance(group);
    }
  }

  // The sums of a linear layer's input; empty for one that is not measured.
  static std::span<const double> sums_of(const LinearLayer& linear, const BlockSums& sums) {
    if (!is_measured(linear)) return {};
    if (linear.expert < 0) return sums.squares.at(linear.input);
    const auto width = static_cast<size_t>(linear.in);
    return std::span(linear.input == sums.expert_in ? sums.experts.in : sums.experts.mid)
        .subspan(static_cast<size_t>(linear.expert) * width, width);
  }

  // s_j in float, a mean over sequences, as the published program has it.
  WeightEdit prune_by(int64_t layer, const BlockSums& sums) const {
    std::map<std::string, std::span<const double>, std::less<>> by_name;
    for (const LinearLayer& linear : linear_layers(model_.spec(), layer)) {
      by_name[linear.name] = sums_of(linear, sums);
    }
    return
        [this, by_name](std::string_view name, std::span<float> weight, int64_t out, int64_t in) {
          const std::span<const double> sum = by_name.at(std::string(name));
          if (sum.empty()) return;
          std::vector<float> s(sum.size());
          std::transform(sum.begin(), sum.end(), s.begin(),
                         [n = result_.divisor()](double v) { return static_cast<float>(v / n); });
          prune_rows(model_.threads(), weight, out, in, s, options_.sparsity);
        };
  }

  // Takes over what was measured in one block.
  void keep(int64_t layer, const BlockSums& sums) {
    for (const LinearLayer& linear : linear_layers(model_.spec(), layer)) {
      const std::span<const double> s = sums_of(linear, sums);
      if (s.empty()) continue;
      check_finite(linear.name, s);
      if (linear.expert >= 0) {
        result_.experts.try_emplace(linear.module, sums.experts);
      } else {
        result_.sum_squares.try_emplace(linear.module, s.begin(), s.end());
        if (options_.magnitudes)
          result_.sum_magnitudes.try_emplace(linear.module, sums.magnitudes.at(linear.input));
      }
      if (linear.out != linear.shape[linear.shape.size() - 2]) keep_part(linear);
    }
  }

  void keep_part(const LinearLayer& linear) {
    const auto end_of = [](std::string_view name) { return name.substr(name.rfind('.') + 1); };
    const std::string whole = linear.expert >= 0 ? linear.tensor : linear.module;
    auto& parts = result_.fused[std::string(end_of(whole))];
    const FusedPart part = {std::string(end_of(linear.name)), linear.out};
    if (std::find(parts.begin(), parts.end(), part) == parts.end()) parts.push_back(part);
  }

  static void check_finite(const std::string& module, std::span<const double> sums) {
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
    options_.progress({"calibrating", "tokens", done_, tokens_ * layers});
  }

  const Transformer& model_;
  const CalibrateOptions& options_;
  const CalibrationMemory& memory_;
  std::span<const std::vector<int32_t>> sequences_;
  TokenBatch batch_;  // of this pass
  std::vector<Group> groups_;
  std::vector<float> hidden_;  // [tokens of this pass, hidden]
  Statistics result_;
  uint64_t tokens_ = 0, done_ = 0;
};

}  // namespace

void check_calibration(const Transformer& model, std::span<const std::vector<int32_t>> sequences,
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

namespace {

// A group reads the routed experts that its tokens are sent to, so a mixture has larger groups than
// other models, as long as their values do not take much memory.
int64_t rows_per_group(const Transformer& model, const CalibrateOptions& options) {
  constexpr int64_t kTimes = 4;
  constexpr uint64_t kValueBytes = uint64_t{2} << 30;
  int64_t rows = options.rows_per_group;
  if (model.spec().experts.count == 0) return rows;
  while (rows < kTimes * options.rows_per_group && model.activation_bytes(2 * rows) <= kValueBytes)
    rows *= 2;
  return rows;
}

}  // namespace

CalibrationMemory calibration_memory(const Transformer& model,
                                     std::span<const std::vector<int32_t>> sequences,
                                     const CalibrateOptions& options) {
  constexpr uint64_t kProgram = 64'000'000;
  const bool reference = options.protocol == Protocol::kReference;
  const uint64_t row_bytes = static_cast<uint64_t>(model.spec().hidden) * sizeof(float);
  uint64_t tokens = 0, longest = 1;
  for (const auto& ids : sequences) {
    tokens += ids.size();
    longest = std::max<uint64_t>(longest, ids.size());
  }
  const auto besides_hidden = [&](uint64_t rows, bool ahead) {
    // The reference protocol runs each group on a copy and prunes weights in float.
    const uint64_t block =
        model.block_reading_bytes() + model.packed_block_bytes() * (reference ? 2 : 1) +
        (ahead ? model.stored_block_bytes() : 0) +
        model.activation_bytes(static_cast<int64_t>(rows)) + (reference ? rows * row_bytes : 0);
    return kProgram + std::max(block, model.embedding_reading_bytes());
  };
  const uint64_t limit = options.max_memory ? options.max_memory : UINT64_MAX;
  const uint64_t rows =
      std::max(longest, std::min(tokens, static_cast<uint64_t>(rows_per_group(model, options))));
  for (const auto& [group, ahead] :
       {std::pair(rows, !reference), {rows, false}, {longest, false}}) {
    const uint64_t bytes = besides_hidden(group, ahead) + tokens * row_bytes;
    if (bytes <= limit) {
      return {bytes, static_cast<int64_t>(group), ahead, {{0, sequences.size()}}};
    }
  }
  const uint64_t fixed = besides_hidden(longest, false);
  const uint64_t least = fixed + (reference ? tokens : longest) * row_bytes;
  if (limit < least) {
    throw resource_error("--max-memory {}: this calibration needs at least {} bytes", limit, least);
  }
  const uint64_t rows_per_pass = (limit - fixed) / row_bytes;
  return {limit, static_cast<int64_t>(longest), false,
          group_sequences(make_batch(sequences), static_cast<int64_t>(rows_per_pass))};
}

Statistics calibrate(const Transformer& model, std::span<const std::vector<int32_t>> sequences,
                     const CalibrateOptions& options) {
  check_calibration(model, sequences, options);
  const CalibrationMemory memory = calibration_memory(model, sequences, options);
  return Calibration(model, sequences, options, memory).run();
}

}  // namespace lewis
