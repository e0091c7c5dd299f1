#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <numeric>

#include "base/error.h"
#include "model/kept_weights.h"
#include "model/sample.h"
#include "model/sequence_state.h"
#include "model/transformer.h"

namespace lewis {
namespace {

constexpr int64_t kRowsPerStep = 2048;  // of a step that reads prompts

// A prompt that is being continued.
struct Running {
  size_t prompt = 0;
  SequenceState state;
  int64_t positions = 0;         // in the state
  std::vector<int32_t> pending;  // tokens that the model has not seen: the prompt, then one
};

class Generation {
 public:
  Generation(const Transformer& model, std::span<const std::vector<int32_t>> prompts,
             const GenerateOptions& options)
      : model_(model), prompts_(prompts), options_(options), results_(prompts.size()) {
    load_blocks();
    order_.resize(prompts.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::ranges::stable_sort(order_, std::ranges::greater(),
                             [&](size_t i) { return prompts[i].size(); });
  }

  std::vector<std::vector<int32_t>> run() {
    while (true) {
      admit();
      if (running_.empty()) return std::move(results_);
      const std::vector<int32_t> next = step();
      for (size_t i = 0; i < running_.size(); ++i) accept(running_[i], next[i]);
      const size_t ended = std::erase_if(running_, [&](const Running& r) {
        if (r.pending.empty() && options_.finished) options_.finished(r.prompt, results_[r.prompt]);
        return r.pending.empty();
      });
      done_ += ended;
      if (options_.progress)  // after every token: it may want to interrupt
        options_.progress({"generating", "prompts", done_, prompts_.size()});
    }
  }

 private:
  // Reads the weights that stay in memory.
  void load_blocks() {
    const ModelSpec& spec = model_.spec();
    GenerationSize size;
    size.prompts = std::min(options_.batch, static_cast<int64_t>(prompts_.size()));
    int64_t longest = 0;
    for (const auto& prompt : prompts_) {
      longest = std::max(longest, static_cast<int64_t>(prompt.size()));
      size.rows += static_cast<int64_t>(prompt.size());
    }
    size.rows = std::max(longest, std::min(kRowsPerStep, size.rows));
    size.positions = size.prompts * std::min(longest + options_.max_new_tokens, spec.max_positions);
    const KeptWeights kept = keep_weights(model_, size, options_.max_memory);
    const auto begin = std::chrono::steady_clock::now();
    for (int64_t layer = 0; layer < spec.layers; ++layer) {
      blocks_.push_back(layer < kept.layers ? model_.load_stored_block(layer, kept.experts)
                                            : nullptr);
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    const std::string note =
        reading_note(model_.source().label(), kept, size.prompts, seconds.count());
    if (!note.empty() && options_.note) options_.note(note);
  }

  // Where a block does not stay, it is read for this use.
  std::shared_ptr<const BlockWeights> block(int64_t layer) const {
    const auto& kept = blocks_[static_cast<size_t>(layer)];
    return kept ? kept : model_.load_stored_block(layer, 0);
  }

  // Fills the batch with waiting prompts, at most kRowsPerStep rows a step (but always one).
  void admit() {
    auto rows = static_cast<int64_t>(running_.size());
    while (waiting_ < prompts_.size() && static_cast<int64_t>(running_.size()) < options_.batch) {
      const auto& prompt = prompts_[order_[waiting_]];
      rows += static_cast<int64_t>(prompt.size());
      if (rows > kRowsPerStep && !running_.empty()) return;
      running_.push_back({order_[waiting_++], SequenceState(model_.spec()), 0, prompt});
    }
  }

  // Runs all pending tokens through the model; returns the next token of each running prompt.
  std::vector<int32_t> step() {
    std::vector<int32_t> ids;
    std::vector<SequenceRows> sequences;
    std::vector<int64_t> last_rows;
    for (Running& r : running_) {
      renew(r);
      const auto rows = static_cast<int64_t>(r.pending.size());
      sequences.push_back({static_cast<int64_t>(ids.size()), rows, r.positions, &r.state});
      ids.insert(ids.end(), r.pending.begin(), r.pending.end());
      last_rows.push_back(static_cast<int64_t>(ids.size()) - 1);
      r.positions += rows;
    }
    for (SequenceRows& s : sequences) s.ids = ids.data() + s.first_row;
    hidden_.resize(ids.size() * static_cast<size_t>(model_.spec().hidden));
    model_.embed(ids, hidden_);
    for (int64_t layer = 0; layer < model_.spec().layers; ++layer)
      model_.run_block(*block(layer), sequences, hidden_);
    const auto vocab = static_cast<size_t>(model_.spec().vocab);
    logits_.resize(running_.size() * vocab);
    model_.head(hidden_, last_rows, logits_, HeadFor::kFewRows);
    std::vector<int32_t> next(running_.size());
    model_.threads().run(next.size(), [&](size_t i) {
      next[i] = choose(running_[i].prompt, std::span(logits_).subspan(i * vocab, vocab));
    });
    return next;
  }

  int32_t choose(size_t prompt, std::span<const float> logits) const {
    if (options_.temperature == 0) return most_likely_token(logits);
    const uint64_t number = options_.numbers.empty() ? prompt : options_.numbers[prompt];
    return sample_token(logits, options_.temperature, options_.top_p,
                        sampling_number(options_.seed, number, results_[prompt].size()));
  }

  // Where the rope follows the length of a sequence, what is cached is no longer true: the sequence
  // is read anew.
  void renew(Running& r) {
    const auto after = r.positions + static_cast<int64_t>(r.pending.size());
    if (r.positions == 0 || !rope_changes(model_.spec(), r.positions, after)) return;
    r.state = SequenceState(model_.spec());
    r.positions = 0;
    r.pending = prompts_[r.prompt];
    r.pending.insert(r.pending.end(), results_[r.prompt].begin(), results_[r.prompt].end());
  }

  // Adds a token to a prompt's result; one that has ended has nothing pending.
  void accept(Running& r, int32_t token) {
    r.pending.clear();
    if (std::ranges::find(options_.stop_ids, token) != options_.stop_ids.end()) return;
    std::vector<int32_t>& result = results_[r.prompt];
    result.push_back(token);
    const bool full = static_cast<int64_t>(result.size()) >= options_.max_new_tokens ||
                      r.positions >= model_.spec().max_positions;
    if (!full && !(options_.stop && options_.stop(r.prompt, result))) r.pending.push_back(token);
  }

  const Transformer& model_;
  std::span<const std::vector<int32_t>> prompts_;
  const GenerateOptions& options_;
  std::vector<std::shared_ptr<const BlockWeights>> blocks_;  // null: it does not stay
  std::vector<std::vector<int32_t>> results_;
  std::vector<Running> running_;
  std::vector<size_t> order_;      // in which prompts enter
  size_t waiting_ = 0, done_ = 0;  // waiting_: into order_
  std::vector<float> hidden_, logits_;
};

}  // namespace

std::vector<std::vector<int32_t>> generate(const Transformer& model,
                                           std::span<const std::vector<int32_t>> prompts,
                                           const GenerateOptions& options) {
  if (options.batch < 1 || options.max_new_tokens < 1) {
    throw usage_error(
        "generation needs a batch and a number of new tokens of at least 1, found {} and {}",
        options.batch, options.max_new_tokens);
  }
  if (!(options.temperature >= 0 && std::isfinite(options.temperature))) {
    throw usage_error("temperature is {}, expected 0 (greedy) or more", options.temperature);
  }
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    throw usage_error("top_p is {}, expected more than 0 and at most 1", options.top_p);
  }
  if (!options.numbers.empty() && options.numbers.size() != prompts.size()) {
    throw failed_error("generation got {} prompts, but {} numbers", prompts.size(),
                       options.numbers.size());
  }
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto tokens = static_cast<int64_t>(prompts[i].size());
    if (tokens == 0) throw input_error("prompt {} is empty", i);
    if (tokens >= model.spec().max_positions) {
      throw input_error(
          "prompt {} has {} tokens, but the model has {} positions (max_position_embeddings) for "
          "prompt and answer",
          i, tokens, model.spec().max_positions);
    }
  }
  return Generation(model, prompts, options).run();
}

}  // namespace lewis
