// A tokenizer as the metadata of a GGUF file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/json_fwd.h"
#include "base/model_files.h"
#include "io/gguf.h"

namespace lewis {

// The keys tokenizer.* of a model with a byte-level BPE tokenizer ("gpt2" in GGUF): tokens by their
// ids, their types, merges, the ids of special tokens, whether one begins every text, the chat
// template. `vocabulary` is the number of embeddings: ids without a token get names of their own.
// `pre`: the name of llama.cpp's rules for what is split before BPE; empty: that of the rules in
// tokenizer.json, if they are those of GPT-2, Llama 3, Qwen 2, SmolLM, Mistral's Tekken or GPT-4o.
// Throws Error(kInput) that names the file and the key: a tokenizer of another kind, rules without
// a name, ids beyond the vocabulary or named twice.
GgufMetadata gguf_vocabulary(const ModelFiles& files, int64_t vocabulary, const std::string& pre);

// The rules that a name of llama.cpp stands for, as a tokenizer.json has them (pre_tokenizer);
// nothing for a name that is not known. The names are those that gguf_vocabulary finds.
std::optional<Json> pre_tokenizer_named(std::string_view pre);

}  // namespace lewis
