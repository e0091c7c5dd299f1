// A tokenizer as the metadata of a GGUF file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "app/gguf/families/architecture.h"
#include "base/json_fwd.h"
#include "base/model_files.h"
#include "io/gguf.h"

namespace lewis {

struct VocabularyOptions {
  int64_t size = 0;  // the number of embeddings: ids without a token get names of their own
  // The name of llama.cpp's rules for what is split before BPE; empty: that of the rules in
  // tokenizer.json, if they have one (vocabulary/pre_names.h).
  std::string pre{};
};

// The keys tokenizer.* of a model of that architecture, whose config.json is `config`. A byte-level
// BPE ("gpt2" in GGUF) is read from tokenizer.json. SentencePiece's BPE ("llama") is read from
// tokenizer.model, or where there is none, or tokenizer.json has another vocabulary, from
// tokenizer.json. Written are tokens by their ids, their types, merges or scores, the ids of
// special tokens, whether they are added to a text, and the chat template. Throws Error(kInput)
// that names the file and the key: a tokenizer of another kind, rules without a name, ids beyond
// the vocabulary or named twice. `notes` gets one line for each thing that llama.cpp does
// otherwise.
GgufMetadata gguf_vocabulary(const ModelFiles& files, const Json& config,
                             const GgufArchitecture& architecture, const VocabularyOptions& options,
                             std::vector<std::string>& notes);

}  // namespace lewis
