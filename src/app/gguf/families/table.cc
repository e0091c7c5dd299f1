#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "app/gguf/families/architecture.h"
#include "app/gguf/families/own_keys.h"
#include "base/error.h"

namespace lewis {
namespace {

// What ends a part of the text of Code Llama, and of the first Gemma, by their numbers.
constexpr std::array<FamilyToken, 1> kLlamaTokens = {{{"eot", "", 32010, 32016}}};
constexpr std::array<FamilyToken, 1> kGemmaTokens = {{{"eot", "", 107}}};
constexpr std::array<FamilyToken, 4> kGlm4Tokens = {{{"eos", "<|endoftext|>"},
                                                     {"eot", "<|user|>"},
                                                     {"unk", "<|endoftext|>"},
                                                     {"bos", "<|endoftext|>"}}};

// In the order of their names in llama.cpp. Facts: its loaders (src/models/) and converters
// (conversion/) at ggml 0.26.0.
constexpr GgufArchitecture kArchitectures[] = {
    {.model_type = "llama",
     .gguf = "llama",
     .neighbours = true,
     .output_bias = true,
     .mlp_bias = true,
     .tokens = kLlamaTokens},
    {.model_type = "mistral", .gguf = "llama", .neighbours = true, .tokens = kLlamaTokens},
    {.model_type = "mixtral",
     .gguf = "llama",
     .neighbours = true,
     .mixture = true,
     .normalizes = true,
     .tokens = kLlamaTokens},
    {.model_type = "arcee", .gguf = "arcee", .neighbours = true},
    {.model_type = "cohere2",
     .gguf = "cohere2",
     .window_period = 4,
     .tied = true,
     .write_own = write_cohere2,
     .rules = "smollm",
     .pre = "command-r"},
    {.model_type = "gemma",
     .gguf = "gemma",
     .tied = true,
     .write_own = write_gemma,
     .tokens = kGemmaTokens},
    {.model_type = "gemma2",
     .gguf = "gemma2",
     .window_period = 2,
     .tied = true,
     .write_own = write_gemma2},
    {.model_type = "gemma3_text", .gguf = "gemma3", .window_period = 6, .write_own = write_gemma3},
    {.model_type = "glm4",
     .gguf = "glm4",
     .write_own = write_glm4,
     .tokens = kGlm4Tokens,
     .rules = "llama-bpe",
     .pre = "glm4"},
    {.model_type = "gpt_oss",
     .gguf = "gpt-oss",
     .mixture = true,
     .window_period = 2,
     .output_bias = true,
     .norm_before_mlp = "post_attention_norm",
     .write_own = write_gpt_oss},
    {.model_type = "granite",
     .gguf = "granite",
     .neighbours = true,
     .head_sizes = false,
     .output_bias = true,
     .mlp_bias = true,
     .write_own = write_granite,
     .rules = "smollm",
     .pre = "refact"},
    {.model_type = "lfm2",
     .gguf = "lfm2",
     .final_norm = "token_embd_norm",
     .write_own = write_lfm2},
    {.model_type = "olmo3",
     .gguf = "olmo2",
     .window_period = 4,
     .lists_windows = true,
     .write_own = write_olmo2},
    {.model_type = "olmo2", .gguf = "olmo2", .write_own = write_olmo2},
    {.model_type = "phi3", .gguf = "phi3", .head_sizes = false, .write_own = write_phi3},
    {.model_type = "qwen2", .gguf = "qwen2"},
    {.model_type = "qwen2_moe", .gguf = "qwen2moe", .mixture = true},
    {.model_type = "qwen3", .gguf = "qwen3"},
    {.model_type = "qwen3_5_text",
     .gguf = "qwen35",
     .norm_before_mlp = "post_attention_norm",
     .write_own = write_qwen35},
    {.model_type = "qwen3_5_moe_text",
     .gguf = "qwen35moe",
     .mixture = true,
     .normalizes = true,
     .norm_before_mlp = "post_attention_norm",
     .write_own = write_qwen35},
    {.model_type = "qwen3_moe", .gguf = "qwen3moe", .mixture = true, .normalizes = true},
    {.model_type = "seed_oss", .gguf = "seed_oss", .norm_before_mlp = "post_attention_norm"},
    {.model_type = "smollm3", .gguf = "smollm3", .neighbours = true, .write_own = write_smollm3},
    {.model_type = "starcoder2",
     .gguf = "starcoder2",
     .output_bias = true,
     .mlp_bias = true,
     .write_own = write_starcoder2,
     .rules = "smollm",
     .pre = "starcoder"},
};

}  // namespace

std::span<const GgufArchitecture> gguf_architectures() { return kArchitectures; }

const GgufArchitecture& gguf_architecture(std::string_view model_type, const std::string& file) {
  const auto found = std::ranges::find(kArchitectures, model_type, &GgufArchitecture::model_type);
  if (found != std::end(kArchitectures)) return *found;
  std::vector<std::string_view> known;
  for (const GgufArchitecture& a : kArchitectures) known.push_back(a.model_type);
  std::ranges::sort(known);
  throw input_error("{}: model_type '{}' is not written as GGUF yet, only {} are", file, model_type,
                    fmt::join(known, ", "));
}

}  // namespace lewis
