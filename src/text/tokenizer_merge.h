// One tokenizer for a merged model, made of those of its models: one of them, or the union of all.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/model_files.h"

namespace lewis {

struct TokenizerInput {
  ModelFiles files;  // with tokenizer.json
  int64_t rows = 0;  // of the embeddings: a token with a higher id has none; 0: not known
};

struct TokenizerRequest {
  std::vector<TokenizerInput> models;
  TokenizerInput source;            // keeps its ids, its way of parting text, its special tokens
  bool unite = false;               // add what the models have more, in their order, then by id
  std::vector<std::string> tokens;  // added at the end where they are not there yet
};

using Vocabulary = std::unordered_map<std::string, int32_t>;  // token -> id

struct MergedTokenizer {
  std::vector<std::string> tokens;       // by id; "": no token has this id
  std::vector<Vocabulary> vocabularies;  // per model: the tokens that have a row
  ModelFiles files;                      // those of the source, changed where they must be
  std::vector<std::string> warnings;     // one line each

  // Per id of the output: the row of `model`, or -1.
  std::vector<int32_t> rows_of(size_t model) const;
};

// Where nothing is added and nothing lacks a row, no file changes. Tokens of the source without a
// row are left out. New tokens of a vocabulary come with their merges (BPE) or scores (Unigram),
// after those of the source: a text that the source's vocabulary covers is tokenized as before,
// unless a new token joins several old ones. Added tokens keep their flags. The result has been
// loaded, and every token found at its id.
// Throws Error(kInput) that names the file when a tokenizer.json is missing or broken, and when two
// tokenizers cannot be united because their vocabularies do not mean the same (BPE and Unigram,
// bytes and text).
MergedTokenizer merge_tokenizers(const TokenizerRequest& request);

}  // namespace lewis
