// The families of models that are written as GGUF: a row for each, with what llama.cpp calls it and
// what it knows of it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace lewis {

class KeyWriter;

// A token with a role of its own in the files of a family, where the tokenizer names no other.
struct FamilyToken {
  std::string_view role;  // "eot": tokenizer.ggml.eot_token_id
  std::string_view text;  // the token; empty: it goes by its id
  int64_t id = 0;
  int64_t vocabulary = 0;  // only in models with so many embeddings; 0: in all
};

struct GgufArchitecture {
  std::string_view model_type, gguf;
  // Rotary pairs are neighbours in llama.cpp, so rows of q and k change places; and the file has
  // vocab_size, rope.dimension_count and the factors of Llama 3's rope, as that of a Llama.
  bool neighbours = false;
  bool mixture = false;  // of routed experts, in every layer
  // Whether llama.cpp makes the weights of the chosen experts add up to one.
  bool normalizes = false;
  // llama.cpp applies windows, and by default layer i sees all of a text where i + 1 is a multiple
  // of this. 0: it applies none.
  int64_t window_period = 0;
  bool head_sizes = true;  // key_length and value_length, where config.json has head_dim
  bool tied = false;       // the head is that of the embeddings, always
  bool output_bias = false, mlp_bias = false;  // whether o_proj and the MLP may have biases
  std::string_view norm_before_mlp = "ffn_norm";
  void (*write_own)(KeyWriter& keys) = nullptr;  // the keys that only this family has
  std::span<const FamilyToken> tokens{};
  // Rules of a tokenizer have several names in llama.cpp; this family's files have `pre` for those
  // that are `rules` otherwise (pre_names.h).
  std::string_view rules{}, pre{};
};

std::span<const GgufArchitecture> gguf_architectures();

// Error(kInput) that names `file` and lists the known ones.
const GgufArchitecture& gguf_architecture(std::string_view model_type, const std::string& file);

}  // namespace lewis
