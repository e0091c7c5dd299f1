// llama.cpp's names for the rules that split a text before byte-level BPE (tokenizer.ggml.pre).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/gguf/vocabulary/tokenizer_files.h"

namespace lewis {

// The name of the rules that a tokenizer.json has, or "" for rules without a name. Two names may
// stand for the same rules: then it is that of the model they are best known of, and BPE's
// ignore_merges counts, which llama.cpp has by the name as well.
std::string pre_name_of(const TokenizerFiles& files);

// The other way round: what a tokenizer.json has for one of the names.
struct RulesOfName {
  Json pre_tokenizer;
  bool ignore_merges = false;
};
std::optional<RulesOfName> rules_named(std::string_view pre);

// The names that pre_name_of finds.
std::vector<std::string> known_pre_names();

}  // namespace lewis
