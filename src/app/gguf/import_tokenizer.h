// The tokenizer of a GGUF model as the files that transformers would have.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/gguf/keys.h"
#include "base/model_files.h"

namespace lewis {

struct ImportedTokenizer {
  ChangedFiles files;              // tokenizer.json, tokenizer_config.json; empty: none can be made
  std::vector<std::string> notes;  // what cannot be known, one line each
};

// Byte-level BPE ("gpt2" in GGUF): tokenizer.json with the rules for splitting a text that the name
// tokenizer.ggml.pre stands for, the normaliser that the tokenizer of that name has, and added
// tokens for control tokens and those of users. SentencePiece's tokenizers ("llama"): BPE with byte
// fallback, whose merges are all pairs of tokens that make a token, best score first. A kind or
// name that is not known gives no files and a note. `vocabulary`: the number of embeddings.
// Error(kInput) that names the key: lists that do not fit together, an id beyond them, a token that
// is there twice, a merge that is no pair.
ImportedTokenizer import_tokenizer(const GgufKeys& keys, int64_t vocabulary);

}  // namespace lewis
