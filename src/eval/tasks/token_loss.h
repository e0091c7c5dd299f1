// Negative log-likelihoods of tokens, by teacher forcing.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/progress.h"
#include "model/transformer.h"

namespace lewis {

// A sequence of which the tokens from `first_scored` on (at least 1: token 0 has nothing before
// it) are scored.
struct ScoredSequence {
  std::vector<int32_t> ids;
  size_t first_scored = 1;
};

// Ranges [first, last) of sequences that go through the model together, one reading of all weights
// each. Losses are the same, to the bit, when a range is scored by itself.
std::vector<std::pair<size_t, size_t>> scoring_passes(const ModelSpec& spec,
                                                      std::span<const ScoredSequence> sequences);

// Per sequence, the negative log-likelihood in nats of each scored token given all before it;
// log-softmax in double. Layers outside, sequences inside; the head runs on the scored rows alone,
// in blocks, so that neither logits nor hidden states of a large set are in memory at once.
// Progress counts tokens * layers. Throws Error(kInput) when a value is not finite.
std::vector<std::vector<double>> token_losses(const Transformer& model,
                                              std::span<const ScoredSequence> sequences,
                                              const ProgressFn& progress);

// Per sequence and scored token, KL(expert || model) in nats: how far the model's distribution of
// that token is from the expert's, given all tokens before it. All sequences go through both models
// together. Throws Error(kInput) when the vocabularies differ or a value is not finite.
std::vector<std::vector<double>> token_divergences(const Transformer& model,
                                                   const Transformer& expert,
                                                   std::span<const ScoredSequence> sequences,
                                                   const ProgressFn& progress);

}  // namespace lewis
