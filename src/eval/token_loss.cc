#include "eval/token_loss.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace lewis {
namespace {

// A pass reads all weights once: long enough that reading them is a small part of it, short enough
// that little is lost with one that is interrupted.
constexpr uint64_t kPassTokens = 16'384;
constexpr uint64_t kHiddenBytes = uint64_t{1} << 30;  // hidden states of one pass
constexpr uint64_t kLogitBytes = uint64_t{1} << 26;   // logits of one block of rows

// -log softmax(logits)[target].
double negative_log_likelihood(std::span<const float> logits, int32_t target) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float logit : logits) sum += std::exp(logit - largest);
  return std::log(sum) + largest - logits[static_cast<size_t>(target)];
}

// What is to be scored: the row whose logits predict the token, and the token.
struct Targets {
  std::vector<int64_t> rows;
  std::vector<int32_t> tokens;
};

Targets find_targets(std::span<const ScoredSequence> sequences) {
  Targets targets;
  int64_t first_row = 0;
  for (const ScoredSequence& s : sequences) {
    for (size_t t = s.first_scored; t < s.ids.size(); ++t) {
      targets.rows.push_back(first_row + static_cast<int64_t>(t) - 1);
      targets.tokens.push_back(s.ids[t]);
    }
    first_row += static_cast<int64_t>(s.ids.size());
  }
  return targets;
}

std::vector<double> score(const Transformer& model, std::span<const float> hidden,
                          const Targets& targets) {
  const auto vocab = static_cast<size_t>(model.spec().vocab);
  const size_t block = std::max<size_t>(kLogitBytes / (vocab * sizeof(float)), 1);
  std::vector<double> losses(targets.rows.size());
  std::vector<float> logits(std::min(block, losses.size()) * vocab);
  for (size_t first = 0; first < losses.size(); first += block) {
    const size_t rows = std::min(block, losses.size() - first);
    model.head(hidden, std::span(targets.rows).subspan(first, rows),
               std::span(logits).first(rows * vocab));
    model.threads().run(rows, [&](size_t r) {
      losses[first + r] = negative_log_likelihood(std::span(logits).subspan(r * vocab, vocab),
                                                  targets.tokens[first + r]);
    });
  }
  for (double loss : losses) {
    if (!std::isfinite(loss)) {
      throw input_error("the model's logits are not finite; its weights are too large or damaged");
    }
  }
  return losses;
}

// Scores sequences that go through the model together; appends to `result`.
void score_pass(const Transformer& model, std::span<const ScoredSequence> sequences,
                const ProgressFn& progress, std::vector<std::vector<double>>& result) {
  std::vector<std::vector<int32_t>> ids;
  for (const ScoredSequence& s : sequences) ids.push_back(s.ids);
  const std::vector<float> hidden = run_layers(model, make_batch(ids), progress);
  const std::vector<double> losses = score(model, hidden, find_targets(sequences));
  auto next = losses.begin();
  for (const ScoredSequence& s : sequences) {
    const auto count = static_cast<std::ptrdiff_t>(s.ids.size() - s.first_scored);
    result.emplace_back(next, next + count);
    next += count;
  }
}

}  // namespace

std::vector<std::pair<size_t, size_t>> scoring_passes(const Transformer& model,
                                                      std::span<const ScoredSequence> sequences) {
  const auto hidden = static_cast<uint64_t>(model.spec().hidden);
  const uint64_t most =
      std::clamp<uint64_t>(kHiddenBytes / (hidden * sizeof(float)), 1, kPassTokens);
  std::vector<std::pair<size_t, size_t>> passes;
  for (size_t first = 0; first < sequences.size();) {
    size_t last = first;
    uint64_t tokens = 0;
    while (last < sequences.size() &&
           (last == first || tokens + sequences[last].ids.size() <= most)) {
      tokens += sequences[last++].ids.size();
    }
    passes.emplace_back(first, last);
    first = last;
  }
  return passes;
}

std::vector<std::vector<double>> token_losses(const Transformer& model,
                                              std::span<const ScoredSequence> sequences,
                                              const ProgressFn& progress) {
  uint64_t total = 0, before = 0;
  for (const ScoredSequence& s : sequences) {
    if (s.first_scored < 1 || s.first_scored > s.ids.size()) {
      throw failed_error("cannot score from token {} of {}", s.first_scored, s.ids.size());
    }
    total += s.ids.size() * static_cast<uint64_t>(model.spec().layers);
  }
  std::vector<std::vector<double>> result;
  for (const auto& [first, last] : scoring_passes(model, sequences)) {
    uint64_t reached = before;
    score_pass(
        model, sequences.subspan(first, last - first),
        [&](const Progress& p) {
          reached = before + p.done;
          if (progress) progress({"scoring", "tokens", reached, total});
        },
        result);
    before = reached;
  }
  return result;
}

}  // namespace lewis
