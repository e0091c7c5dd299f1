#include "calibrate/calibrate.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "calibrate/channel_sums.h"
#include "calibrate/probe.h"

namespace lewis {
namespace {

// Sums over some sequences in one block, by the values that are inputs of linear layers.
struct Sums {
  std::map<Value, std::vector<double>> squares;     // of those that see all rows
  std::map<Value, std::vector<double>> magnitudes;  // the same of |x|, if asked for
  ExpertStatistics experts;
};

template <typename T>
void add(std::vector<T>& sums, const std::vector<T>& more) {
  sums.resize(std::max(sums.size(), more.size()));
  for (size_t i = 0; i < more.size(); ++i) sums[i] += more[i];
}

void add(ExpertStatistics& sums, const ExpertStatistics& more) {
  add(sums.tokens, more.tokens);
  add(sums.in, more.in);
  add(sums.mid, more.mid);
}

template <typename Key, typename T>
void add(std::map<Key, T>& sums, const std::map<Key, T>& more) {
  for (const auto& [key, its] : more) add(sums[key], its);
}

void add(Sums& sums, const Sums& more) {
  add(sums.squares, more.squares);
  add(sums.magnitudes, more.magnitudes);
  add(sums.experts, more.experts);
}

// The sums of one block.
struct BlockSums {
  std::map<size_t, Sums> open;  // by piece: those that more sequences belong to
  std::map<size_t, Sums> done;  // by piece where they are kept apart, else the total at 0
  Value expert_in = kNoIndex;   // what the routed experts read
};

// The rows of one sequence that are counted, and the piece that it belongs to.
struct CountedRows {
  RowRange rows;
  size_t piece = 0;
};

// The sequences of one group, as rows of the group's part of the hidden states.
struct Group {
  int64_t first_row = 0, rows = 0;
  std::vector<SequenceRows> sequences;
  std::vector<CountedRows> counted;
  std::vector<size_t> ended;  // pieces whose last sequence is in this group, in order
};

// The rows of a gathered matrix, row i of which is row rows[i] of the group, that are counted.
// Both lists ascend.
std::vector<CountedRows> counted_of(std::span<const int64_t> rows,
                                    const std::vector<CountedRows>& all) {
  std::vector<CountedRows> ranges;
  size_t at = 0;
  for (int64_t i = 0; i < static_cast<int64_t>(rows.size()); ++i) {
    const int64_t row = rows[static_cast<size_t>(i)];
    while (at < all.size() && all[at].rows.second <= row) ++at;
    if (at == all.size() || row < all[at].rows.first) continue;
    if (!ranges.empty() && ranges.back().rows.second == i && ranges.back().piece == all[at].piece) {
      ++ranges.back().rows.second;
    } else {
      ranges.push_back({{i, i + 1}, all[at].piece});
    }
  }
  return ranges;
}

class Calibration {
 public:
  // `pieces`: the first sequence of each piece, and behind them the number of sequences.
  Calibration(const Transformer& model, std::span<const std::vector<int32_t>> sequences,
              std::vector<size_t> pieces, bool apart, const CalibrateOptions& options,
              const CalibrationMemory& memory)
      : model_(model),
        options_(options),
        memory_(memory),
        sequences_(sequences),
        pieces_(std::move(pieces)),
        apart_(apart),
        results_(apart ? pieces_.size() - 1 : 1) {
    for (size_t piece = 0; piece + 1 < pieces_.size(); ++piece) {
      Statistics& result = result_of(piece);
      result.protocol = options.protocol;
      result.sequences += pieces_[piece + 1] - pieces_[piece];
      for (size_t s = pieces_[piece]; s < pieces_[piece + 1]; ++s) {
        tokens_ += sequences[s].size();
        result.tokens += sequences[s].size() - options.skip_first;
      }
    }
  }

  // Sums are added in the order of the tokens within a piece, and those of the pieces in the order
  // of these, whatever the passes. The result of each piece, or one of all.
  std::vector<Statistics> run() {
    const int64_t layers = model_.spec().layers;
    std::vector<BlockSums> sums;
    for (int64_t layer = 0; layer < layers; ++layer) sums.push_back({{}, {}, experts_input(layer)});
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
    return std::move(results_);
  }

 private:
  Statistics& result_of(size_t piece) { return results_[apart_ ? piece : 0]; }

  // The hidden states of some sequences before the first block.
  void begin_pass(std::pair<size_t, size_t> pass) {
    batch_ = make_batch(sequences_.subspan(pass.first, pass.second - pass.first));
    groups_.clear();
    for (const auto& [first, last] : group_sequences(batch_, memory_.rows_per_group)) {
      groups_.push_back(make_group(pass.first, first, last));
    }
    hidden_.resize(batch_.ids.size() * static_cast<size_t>(model_.spec().hidden));
    model_.embed_once(batch_.ids, hidden_);
  }

  // Sequences of a pass that begins with the sequence `begin`.
  Group make_group(size_t begin, size_t first, size_t last) const {
    Group group;
    group.first_row = batch_.sequences[first].first_row;
    for (size_t s = first; s < last; ++s) {
      SequenceRows rows = batch_.sequences[s];
      rows.first_row -= group.first_row;
      group.sequences.push_back(rows);
      const auto next = std::upper_bound(pieces_.begin(), pieces_.end(), begin + s);
      const auto piece = static_cast<size_t>(next - pieces_.begin()) - 1;
      group.counted.push_back(
          {{rows.first_row + static_cast<int64_t>(options_.skip_first), rows.first_row + rows.rows},
           piece});
      if (begin + s + 1 == *next) group.ended.push_back(piece);
      group.rows += rows.rows;
    }
    return group;
  }

  std::span<float> hidden_of(const Group& group) {
    const auto width = static_cast<size_t>(model_.spec().hidden);
    return std::span(hidden_).subspan(group.first_row * width, group.rows * width);
  }

  // The value that the routed experts of a block read.
  Value experts_input(int64_t layer) const {
    const BlockSteps block = block_steps(model_.spec(), layer);
    return block.experts() ? block.experts()->expert_in : kNoIndex;
  }

  // The open sums of a piece; new ones are zero.
  Sums& sums_of_piece(int64_t layer, BlockSums& sums, size_t piece) const {
    const auto [its, fresh] = sums.open.try_emplace(piece);
    if (!fresh || sums.expert_in == kNoIndex) return its->second;
    const BlockSteps block = block_steps(model_.spec(), layer);
    const ExpertsStep& step = *block.experts();
    const auto width = [&](Value value) { return static_cast<size_t>(block.width(value)); };
    ExpertStatistics& experts = its->second.experts;
    experts.tokens.resize(step.experts.size());
    experts.in.resize(step.experts.size() * width(step.expert_in));
    experts.mid.resize(step.experts.size() * width(step.expert_inner));
    return its->second;
  }

  // Where the counted rows of a group are added: `sums_for` gives the sums of a piece.
  template <typename F>
  static std::vector<RowsInto> rows_into(const std::vector<CountedRows>& counted,
                                         const F& sums_for) {
    std::vector<RowsInto> into;
    for (const CountedRows& its : counted) into.push_back({its.rows, sums_for(its.piece)});
    return into;
  }

  TapFn tap_into(int64_t layer, BlockSums& sums, const Group& group) const {
    return [this, layer, &sums, &group](const Tapped& tapped) {
      if (tapped.expert >= 0) return add_expert(layer, sums, group, tapped);
      const auto of = [&](std::map<Value, std::vector<double>>& all) {
        std::vector<double>& s = all[tapped.value];
        s.resize(static_cast<size_t>(tapped.x.columns));
        return std::span(s);
      };
      const auto squares = rows_into(group.counted, [&](size_t piece) {
        return of(sums_of_piece(layer, sums, piece).squares);
      });
      add_squares(model_.threads(), tapped.x, squares);
      if (!options_.magnitudes) return;
      const auto magnitudes = rows_into(group.counted, [&](size_t piece) {
        return of(sums_of_piece(layer, sums, piece).magnitudes);
      });
      add_magnitudes(model_.threads(), tapped.x, magnitudes);
    };
  }

  void add_expert(int64_t layer, BlockSums& sums, const Group& group, const Tapped& tapped) const {
    const auto counted = counted_of(tapped.rows, group.counted);
    const auto expert = static_cast<size_t>(tapped.expert);
    const auto width = static_cast<size_t>(tapped.x.columns);
    const bool in = tapped.value == sums.expert_in;
    add_squares_in_order(
        model_.threads(), tapped.x, rows_into(counted, [&](size_t piece) {
          ExpertStatistics& experts = sums_of_piece(layer, sums, piece).experts;
          return std::span(in ? experts.in : experts.mid).subspan(expert * width, width);
        }));
    if (!in) return;
    for (const CountedRows& its : counted) {
      sums_of_piece(layer, sums, its.piece).experts.tokens[expert] +=
          its.rows.second - its.rows.first;
    }
  }

  // Adds what has ended to the total, or keeps it.
  void end_pieces(BlockSums& sums, const Group& group) const {
    for (const size_t piece : group.ended) {
      auto its = sums.open.extract(piece);
      if (its.empty()) continue;  // a block without linear layers
      const auto [done, fresh] = sums.done.try_emplace(apart_ ? piece : 0);
      if (fresh) {
        done->second = std::move(its.mapped());
      } else {
        add(done->second, its.mapped());
      }
    }
  }

  void run_clean(int64_t layer, BlockSums& sums) {
    const auto block = model_.load_block(layer, {}, memory_.experts);
    if (memory_.read_ahead) model_.read_ahead(layer + 1);
    for (const Group& group : groups_) {
      model_.run_block(*block, group.sequences, hidden_of(group), tap_into(layer, sums, group));
      end_pieces(sums, group);
      advance(group);
    }
  }

  // The taps see the block as it is, run on a copy; the next block's inputs are the outputs of the
  // pruned block.
  void run_reference(int64_t layer, BlockSums& sums) {
    const bool last = layer + 1 == model_.spec().layers;  // nobody needs its pruned outputs
    {
      const auto block = model_.load_block(layer, {}, memory_.experts);
      std::vector<float> copy;
      for (const Group& group : groups_) {
        const std::span<const float> hidden = hidden_of(group);
        copy.assign(hidden.begin(), hidden.end());
        model_.run_block(*block, group.sequences, copy, tap_into(layer, sums, group));
        end_pieces(sums, group);
        if (last) advance(group);
      }
    }
    if (last) return;
    const auto pruned =
        model_.load_block(layer, prune_by(layer, sums.done.at(0), sums.expert_in), memory_.experts);
    for (const Group& group : groups_) {
      model_.run_block(*pruned, group.sequences, hidden_of(group));
      advance(group);
    }
  }

  // The sums of a linear layer's input; empty for one that is not measured.
  static std::span<const double> sums_of(const LinearLayer& linear, const Sums& sums,
                                         Value expert_in) {
    if (!is_measured(linear)) return {};
    if (linear.expert < 0) return sums.squares.at(linear.input);
    const auto width = static_cast<size_t>(linear.in);
    return std::span(linear.input == expert_in ? sums.experts.in : sums.experts.mid)
        .subspan(static_cast<size_t>(linear.expert) * width, width);
  }

  // s_j in float, a mean over sequences, as the published program has it.
  WeightEdit prune_by(int64_t layer, const Sums& sums, Value expert_in) const {
    std::map<std::string, std::span<const double>, std::less<>> by_name;
    for (const LinearLayer& linear : linear_layers(model_.spec(), layer)) {
      by_name[linear.name] = sums_of(linear, sums, expert_in);
    }
    return [this, by_name](std::string_view name, std::span<float> weight, int64_t out,
                           int64_t in) {
      const std::span<const double> sum = by_name.at(std::string(name));
      if (sum.empty()) return;
      std::vector<float> s(sum.size());
      std::transform(sum.begin(), sum.end(), s.begin(),
                     [n = results_[0].divisor()](double v) { return static_cast<float>(v / n); });
      prune_rows(model_.threads(), weight, out, in, s, options_.sparsity);
    };
  }

  // Takes over what was measured in one block.
  void keep(int64_t layer, const BlockSums& sums) {
    const std::vector<LinearLayer> linears = linear_layers(model_.spec(), layer);
    for (const auto& [piece, its] : sums.done) {
      for (const LinearLayer& linear : linears) keep(linear, its, sums.expert_in, result_of(piece));
    }
  }

  void keep(const LinearLayer& linear, const Sums& sums, Value expert_in, Statistics& result) {
    const std::span<const double> s = sums_of(linear, sums, expert_in);
    if (s.empty()) return;
    check_finite(linear.name, s);
    if (linear.expert >= 0) {
      result.experts.try_emplace(linear.module, sums.experts);
    } else {
      result.sum_squares.try_emplace(linear.module, s.begin(), s.end());
      if (options_.magnitudes)
        result.sum_magnitudes.try_emplace(linear.module, sums.magnitudes.at(linear.input));
    }
    if (linear.out != linear.shape[linear.shape.size() - 2]) keep_part(linear, result);
  }

  static void keep_part(const LinearLayer& linear, Statistics& result) {
    const auto end_of = [](std::string_view name) { return name.substr(name.rfind('.') + 1); };
    const std::string whole = linear.expert >= 0 ? linear.tensor : linear.module;
    auto& parts = result.fused[std::string(end_of(whole))];
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
  const std::vector<size_t> pieces_;
  const bool apart_;  // the pieces have results of their own
  TokenBatch batch_;  // of this pass
  std::vector<Group> groups_;
  std::vector<float> hidden_;  // [tokens of this pass, hidden]
  std::vector<Statistics> results_;
  uint64_t tokens_ = 0, done_ = 0;
};

}  // namespace

void check_calibration(const Transformer& model, std::span<const std::vector<int32_t>> sequences,
                       const CalibrateOptions& options) {
  if (!(options.sparsity >= 0 && options.sparsity <= 1)) {
    throw usage_error("sparsity {} is outside [0, 1]", options.sparsity);
  }
  if (options.skip_first > 0 && options.protocol == Protocol::kReference) {
    throw usage_error("skip_first belongs to the clean protocol; reference counts all tokens");
  }
  if (sequences.empty()) throw input_error("the calibration set holds no sequences");
  const int64_t most = model.spec().max_positions,
                least = static_cast<int64_t>(options.skip_first) + 1;
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

// The sums of the inputs of one block, in double.
uint64_t sum_bytes(const Transformer& model, int64_t layer, bool magnitudes) {
  std::set<Value> met;
  uint64_t dense = 0, routed = 0;  // values
  for (const LinearLayer& linear : linear_layers(model.spec(), layer)) {
    if (!is_measured(linear)) continue;
    const auto in = static_cast<uint64_t>(linear.in);
    if (linear.expert < 0) {
      dense += met.insert(linear.input).second ? in : 0;
    } else if (linear.role != LinearRole::kGate) {  // it shares its input with up
      routed += in;
    }
  }
  return sizeof(double) * (dense * (magnitudes ? 2 : 1) + routed);
}

// The result, and the sums of the pieces that are open in one block.
uint64_t statistics_bytes(const Transformer& model, uint64_t pieces, bool magnitudes) {
  uint64_t all = 0, most = 0;
  for (int64_t layer = 0; layer < model.spec().layers; ++layer) {
    const uint64_t bytes = sum_bytes(model, layer, magnitudes);
    all += bytes;
    most = std::max(most, bytes);
  }
  return all + pieces * most;
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
  const uint64_t sums = statistics_bytes(model, std::min<uint64_t>(sequences.size(), kMostPieces),
                                         options.magnitudes);
  const auto besides_hidden = [&](uint64_t rows, bool ahead, ReadExperts experts) {
    // The reference protocol runs each group on a copy and prunes weights in float.
    const uint64_t block =
        model.block_reading_bytes() + model.packed_block_bytes(experts) * (reference ? 2 : 1) +
        (ahead ? model.stored_block_bytes() : 0) +
        model.activation_bytes(static_cast<int64_t>(rows)) + (reference ? rows * row_bytes : 0);
    return kProgram + sums + std::max(block, model.embedding_reading_bytes());
  };
  const uint64_t limit = options.max_memory ? options.max_memory : UINT64_MAX;
  const uint64_t most_rows = static_cast<uint64_t>(rows_of_groups(model, options.rows_per_group));
  const uint64_t rows = std::max(longest, std::min(tokens, most_rows));
  const ReadExperts first = experts_for(model, (tokens + rows - 1) / rows);
  for (const auto& [group, ahead, experts] : {std::tuple(rows, !reference, first),
                                              {rows, !reference, ReadExperts::kWhenUsed},
                                              {rows, false, ReadExperts::kWhenUsed},
                                              {longest, false, ReadExperts::kWhenUsed}}) {
    const uint64_t bytes = besides_hidden(group, ahead, experts) + tokens * row_bytes;
    if (bytes <= limit) {
      return {bytes, static_cast<int64_t>(group), ahead, experts, {{0, sequences.size()}}};
    }
  }
  const uint64_t fixed = besides_hidden(longest, false, ReadExperts::kWhenUsed);
  const uint64_t least = fixed + (reference ? tokens : longest) * row_bytes;
  if (limit < least) {
    throw resource_error("--max-memory {}: this calibration needs at least {} bytes", limit, least);
  }
  const uint64_t rows_per_pass = (limit - fixed) / row_bytes;
  return {limit, static_cast<int64_t>(longest), false, ReadExperts::kWhenUsed,
          group_sequences(make_batch(sequences), static_cast<int64_t>(rows_per_pass))};
}

Statistics calibrate(const Transformer& model, std::span<const std::vector<int32_t>> sequences,
                     const CalibrateOptions& options) {
  check_calibration(model, sequences, options);
  const CalibrationMemory memory = calibration_memory(model, sequences, options);
  return std::move(
      Calibration(model, sequences, calibration_pieces(sequences.size()), false, options, memory)
          .run()[0]);
}

std::vector<size_t> calibration_pieces(size_t sequences) {
  const size_t count = std::min(sequences, kMostPieces);
  std::vector<size_t> pieces = {0};
  for (size_t piece = 1; piece <= count; ++piece) pieces.push_back(sequences * piece / count);
  return pieces;
}

std::vector<Statistics> calibrate_pieces(const Transformer& model,
                                         std::span<const std::vector<int32_t>> sequences,
                                         std::vector<size_t> pieces,
                                         const CalibrateOptions& options) {
  check_calibration(model, sequences, options);
  if (options.protocol == Protocol::kReference)
    throw usage_error("the protocol reference prunes by all sequences and has no pieces");
  const CalibrationMemory memory = calibration_memory(model, sequences, options);
  return Calibration(model, sequences, std::move(pieces), true, options, memory).run();
}

void add_piece(Statistics& sum, const Statistics& piece) {
  add(sum.sum_squares, piece.sum_squares);
  add(sum.sum_magnitudes, piece.sum_magnitudes);
  add(sum.experts, piece.experts);
  sum.tokens += piece.tokens;
  sum.sequences += piece.sequences;
}

}  // namespace lewis
