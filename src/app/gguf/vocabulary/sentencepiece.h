// SentencePiece's BPE vocabularies: what llama.cpp calls the model "llama".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/gguf/vocabulary/tokenizer_files.h"

namespace lewis {

// As tokenizer.ggml.token_type has them, and SentencePiece.
enum TokenType : int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

struct VocabularyPiece {
  std::string text;
  float score = 0;
  TokenType type = kNormal;
};

struct SentencePieces {
  std::vector<VocabularyPiece> pieces;  // by their ids
  bool space_prefix = true;             // a space is put before a text
};

// Reads a tokenizer.model (sentencepiece_model.proto: pieces, the type of the model, and of the
// normalizer whether it adds a space). Error(kInput) that names `file`: what is no such file, or no
// BPE.
SentencePieces read_sentencepiece(std::string_view bytes, const std::string& file);

// The same of a tokenizer.json that has BPE with bytes for what is not in the vocabulary. Scores
// are made of the order of merges: that of sentencepiece, where the file was made of a
// tokenizer.model. A note says where the order is one that scores cannot tell.
SentencePieces sentencepieces_of(const TokenizerFiles& files, std::vector<std::string>& notes);

}  // namespace lewis
