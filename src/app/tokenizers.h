// The tokenizer settings of a recipe: where text/ (tokenizers) and merge/ (embeddings) meet.
#pragma once

#include "app/gguf/import.h"
#include "base/threads.h"
#include "merge/input_model.h"

namespace lewis {

// Applies `tokenizer_source`, `tokenizer` and `chat_template` of the recipe to its models'
// tokenizers. Where all tokenizers and vocabularies are the same and nothing is added, nothing
// changes. Throws Error(kUsage) "FILE:LINE: ..." for settings that name what is not there, and
// Error(kInput) for tokenizers that cannot be read or united.
TokenizerChange change_tokenizer(const Recipe& recipe, const std::vector<InputModel>& models,
                                 size_t main);

// The options with which the verbs open models.
inline OpenOptions open_options(const Threads& threads, uint64_t seed = 0) {
  return {
      .seed = seed, .threads = threads.count(), .tokenizers = change_tokenizer, .gguf = open_gguf};
}

}  // namespace lewis
