// Calibration: the forward pass with a tap at every input of linear layers. Layers outside, all
// tokens inside: every weight is read once (twice by the reference protocol, which runs each block
// again, pruned).
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "base/progress.h"
#include "calibrate/statistics.h"
#include "model/transformer.h"

namespace lewis {

struct CalibrateOptions {
  Protocol protocol = Protocol::kClean;
  uint64_t skip_first = 0;  // clean: tokens at the start of each sequence, run but not counted
  bool magnitudes = false;  // fill Statistics::sum_magnitudes as well
  double sparsity = 0.5;    // reference: share of each output row that the probe zeroes
  int64_t rows_per_group = 2048;  // tokens that go through a block together: see rows_of_groups
  uint64_t max_memory = 0;        // bytes; 0: no limit
  ProgressFn progress;            // tokens * layers
};

// Sums are first made of pieces, which are as many sequences that follow one another, and then
// added in the order of the pieces: so pieces may be measured apart, and the bits are the same.
inline constexpr size_t kMostPieces = 32;
// The first sequence of each piece, and behind them the number of sequences.
std::vector<size_t> calibration_pieces(size_t sequences);

// Sums of squares of the inputs of every linear layer (docs/lewis.md), for every
// LinearLayer::module. The bits are the same for any number of threads. Memory: one block, the
// hidden states of all tokens, one group's activations (calibration_memory); what is more than
// max_memory is saved by not reading the next block ahead, by small groups, and at last (clean) by
// several passes over the model, without changing a bit. origin is left to the caller. Throws
// Error(kResource), before any work, when max_memory is too little for one sequence. Throws
// Error(kInput): no sequences, an empty one, one that is longer than the model's positions, an id
// outside the vocabulary, activations that are not finite; and Error(kUsage): sparsity outside [0,
// 1], skip_first with the reference protocol.
Statistics calibrate(const Transformer& model, std::span<const std::vector<int32_t>> sequences,
                     const CalibrateOptions& options);

// The same for each piece apart; `pieces` as calibration_pieces() has them, for these sequences.
// Error(kUsage) for the protocol reference, in which every sequence depends on all others.
std::vector<Statistics> calibrate_pieces(const Transformer& model,
                                         std::span<const std::vector<int32_t>> sequences,
                                         std::vector<size_t> pieces,
                                         const CalibrateOptions& options);
// Adds the sums of the next piece to those of the first one, or of the ones before.
void add_piece(Statistics& sum, const Statistics& piece);

// The errors of calibrate() that input and options have, without work.
void check_calibration(const Transformer& model, std::span<const std::vector<int32_t>> sequences,
                       const CalibrateOptions& options);

// How the tokens go through the model, and the bytes that this takes: blocks, hidden states,
// activations, sums, 64 MB for the program itself.
struct CalibrationMemory {
  uint64_t bytes = 0;
  int64_t rows_per_group = 0;
  bool read_ahead = true;                         // the next block while one computes
  ReadExperts experts = ReadExperts::kWhenUsed;   // of a block
  std::vector<std::pair<size_t, size_t>> passes;  // ranges of sequences
};
// Within max_memory; Error(kResource) names the least that would do.
CalibrationMemory calibration_memory(const Transformer& model,
                                     std::span<const std::vector<int32_t>> sequences,
                                     const CalibrateOptions& options);

}  // namespace lewis
