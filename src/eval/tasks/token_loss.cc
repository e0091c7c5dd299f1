#include "eval/tasks/token_loss.h"

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

double log_sum_exp(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float logit : logits) sum += std::exp(logit - largest);
  return std::log(sum) + largest;
}

// -log softmax(logits)[target].
double negative_log_likelihood(std::span<const float> logits, int32_t target) {
  return log_sum_exp(logits) - logits[static_cast<size_t>(target)];
}

// A token to be scored, and the row whose logits predict it.
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

// Rows of logits at a time, of which there may be two kinds.
size_t rows_of_block(const Transformer& model) {
  const auto vocab = static_cast<size_t>(model.spec().vocab);
  return std::max<size_t>(kLogitBytes / (vocab * sizeof(float)), 1);
}

void check_finite(std::span<const double> values) {
  if (std::ranges::all_of(values, [](double v) { return std::isfinite(v); })) return;
  throw input_error("the model's logits are not finite; its weights are too large or damaged");
}

std::vector<double> score(const Transformer& model, std::span<const float> hidden,
                          const Targets& targets) {
  const auto vocab = static_cast<size_t>(model.spec().vocab);
  const size_t block = rows_of_block(model);
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
  check_finite(losses);
  return losses;
}

// sum p log(p / q) of the distributions that two rows of logits stand for.
double divergence(std::span<const float> p, std::span<const float> q) {
  const double p_total = log_sum_exp(p), q_total = log_sum_exp(q);
  double sum = 0;
  for (size_t j = 0; j < p.size(); ++j) {
    const double log_p = p[j] - p_total, log_q = q[j] - q_total;
    sum += std::exp(log_p) * (log_p - log_q);
  }
  return sum;
}

std::vector<double> diverge(const Transformer& model, std::span<const float> hidden,
                            const Transformer& expert, std::span<const float> expert_hidden,
                            std::span<const int64_t> all_rows) {
  const auto vocab = static_cast<size_t>(model.spec().vocab);
  const size_t block = rows_of_block(model);
  std::vector<double> result(all_rows.size());
  std::vector<float> logits(std::min(block, result.size()) * vocab), expert_logits(logits.size());
  for (size_t first = 0; first < result.size(); first += block) {
    const auto rows = all_rows.subspan(first, std::min(block, result.size() - first));
    model.head(hidden, rows, std::span(logits).first(rows.size() * vocab));
    expert.head(expert_hidden, rows, std::span(expert_logits).first(rows.size() * vocab));
    model.threads().run(rows.size(), [&](size_t r) {
      result[first + r] = divergence(std::span(expert_logits).subspan(r * vocab, vocab),
                                     std::span(logits).subspan(r * vocab, vocab));
    });
  }
  check_finite(result);
  return result;
}

// One vector per sequence, with one value per scored token.
void append_by_sequence(std::span<const double> values, std::span<const ScoredSequence> sequences,
                        std::vector<std::vector<double>>& result) {
  auto next = values.begin();
  for (const ScoredSequence& s : sequences) {
    const auto count = static_cast<std::ptrdiff_t>(s.ids.size() - s.first_scored);
    result.emplace_back(next, next + count);
    next += count;
  }
}

TokenBatch batch_of(std::span<const ScoredSequence> sequences) {
  std::vector<std::vector<int32_t>> ids;
  for (const ScoredSequence& s : sequences) ids.push_back(s.ids);
  return make_batch(ids);
}

// Scores sequences that go through the model together; appends to `result`.
void score_pass(const Transformer& model, std::span<const ScoredSequence> sequences,
                const ProgressFn& progress, std::vector<std::vector<double>>& result) {
  const std::vector<float> hidden = run_layers(model, batch_of(sequences), progress);
  append_by_sequence(score(model, hidden, find_targets(sequences)), sequences, result);
}

}  // namespace

std::vector<std::pair<size_t, size_t>> scoring_passes(const ModelSpec& spec,
                                                      std::span<const ScoredSequence> sequences) {
  const auto hidden = static_cast<uint64_t>(spec.hidden);
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
  for (const auto& [first, last] : scoring_passes(model.spec(), sequences)) {
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

std::vector<std::vector<double>> token_divergences(const Transformer& model,
                                                   const Transformer& expert,
                                                   std::span<const ScoredSequence> sequences,
                                                   const ProgressFn& progress) {
  if (model.spec().vocab != expert.spec().vocab) {
    throw input_error("a divergence needs models of one vocabulary: {} and {} tokens",
                      model.spec().vocab, expert.spec().vocab);
  }
  const TokenBatch batch = batch_of(sequences);
  const auto half = [&](uint64_t before) {
    return [&progress, before](const Progress& p) {
      if (progress) progress({"scoring", "tokens", before * p.total + p.done, 2 * p.total});
    };
  };
  const std::vector<float> hidden = run_layers(model, batch, half(0));
  const std::vector<float> expert_hidden = run_layers(expert, batch, half(1));
  std::vector<std::vector<double>> result;
  append_by_sequence(diverge(model, hidden, expert, expert_hidden, find_targets(sequences).rows),
                     sequences, result);
  return result;
}

}  // namespace lewis
