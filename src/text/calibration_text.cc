// Which samples a calibration takes, and the exact ids that it feeds for them.
#include <algorithm>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "text/dataset.h"
#include "text/numpy_random.h"

namespace lewis {
namespace {

using Kind = DataItem::Kind;

// Which of n things to take, in which order.
std::vector<uint32_t> choose(size_t n, const CalibrationText& how, bool in_file_order) {
  if (n > std::numeric_limits<int32_t>::max()) throw input_error("{} samples are too many", n);
  std::vector<uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0u);
  if (how.samples == 0 && how.skip == 0) return order;
  if (!in_file_order) order = numpy_permutation(how.seed, static_cast<uint32_t>(n));
  order.erase(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(std::min(n, how.skip)));
  if (how.samples > 0) order.resize(std::min(order.size(), how.samples));
  return order;
}

void cut(TokenSequence& sequence, size_t max_tokens) {
  if (sequence.ids.size() > max_tokens) sequence.ids.resize(max_tokens);
  sequence.prompt_tokens = std::min(sequence.prompt_tokens, sequence.ids.size());
}

// Fills up to max_tokens with EOS, on the tokenizer's side.
void pad(TokenSequence& sequence, const Tokenizer& tokenizer, size_t max_tokens) {
  const size_t missing = max_tokens - sequence.ids.size();
  const auto place = tokenizer.pads_left() ? sequence.ids.begin() : sequence.ids.end();
  sequence.ids.insert(place, missing, tokenizer.eos_id().value());
  if (tokenizer.pads_left()) sequence.prompt_tokens += missing;
}

TokenSequence reference_sequence(const Tokenizer* tokenizer, const DataItem& item) {
  if (item.kind == Kind::kIds) return {item.ids, 0};
  if (tokenizer == nullptr) throw input_error("{}: a text needs a tokenizer", item.where);
  return {tokenizer->encode(item.reference_text, item.kind != Kind::kChat), 0};
}

void finish(TokenSequence& sequence, const Tokenizer* tokenizer, const DataItem& item,
            const CalibrationText& how) {
  cut(sequence, how.max_tokens);
  if (sequence.ids.empty()) throw input_error("{}: the item has no tokens", item.where);
  if (!how.reference || item.kind == Kind::kIds || sequence.ids.size() == how.max_tokens) return;
  if (!tokenizer->eos_id()) {
    throw input_error("{}: protocol reference pads with EOS, but the model names no EOS token",
                      item.where);
  }
  pad(sequence, *tokenizer, how.max_tokens);
}

// A text as windows of max_tokens; the last may be shorter.
std::vector<TokenSequence> windows(const TokenSequence& text, size_t max_tokens) {
  std::vector<TokenSequence> result;
  for (size_t start = 0; start < text.ids.size(); start += max_tokens) {
    const size_t end = std::min(start + max_tokens, text.ids.size());
    TokenSequence window;
    window.ids.assign(text.ids.begin() + static_cast<std::ptrdiff_t>(start),
                      text.ids.begin() + static_cast<std::ptrdiff_t>(end));
    window.prompt_tokens = std::min(std::max(text.prompt_tokens, start), end) - start;
    result.push_back(std::move(window));
  }
  return result;
}

std::vector<TokenSequence> text_sequences(const DataItem& item, const Tokenizer* tokenizer,
                                          const CalibrationText& how) {
  const TokenSequence text =
      how.reference ? reference_sequence(tokenizer, item) : tokenize(tokenizer, item);
  std::vector<TokenSequence> all = windows(text, how.max_tokens);
  if (all.empty()) throw input_error("{}: the text has no tokens", item.where);
  std::vector<TokenSequence> sequences;
  for (uint32_t i : choose(all.size(), how, false)) {
    sequences.push_back(std::move(all[i]));
    finish(sequences.back(), tokenizer, item, how);
  }
  return sequences;
}

}  // namespace

std::vector<TokenSequence> calibration_sequences(const std::vector<DataItem>& items,
                                                 const Tokenizer* tokenizer,
                                                 const CalibrationText& how) {
  if (how.max_tokens == 0) throw usage_error("calibration: sequences of 0 tokens");
  if (items.empty()) throw input_error("calibration: no items");
  if (items.front().kind == Kind::kText) return text_sequences(items.front(), tokenizer, how);
  std::vector<TokenSequence> sequences;
  for (uint32_t i : choose(items.size(), how, items.front().kind == Kind::kIds)) {
    const DataItem& item = items[i];
    sequences.push_back(how.reference ? reference_sequence(tokenizer, item)
                                      : tokenize(tokenizer, item));
    finish(sequences.back(), tokenizer, item, how);
  }
  return sequences;
}

}  // namespace lewis
