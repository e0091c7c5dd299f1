// What llama.cpp makes of a GGUF file, for check.py: the logits of given tokens, and the tokens of
// given lines.
//
//   llama_values MODEL.gguf logits COUNT TOKEN...   COUNT x vocabulary float32 numbers on stdout;
//                                                   COUNT is the room for tokens of the context
//   llama_values MODEL.gguf tokens                  a line of token ids for each line of stdin,
//                                                   which has its line breaks as 0x1e
//
// Keys and values are float32 and attention is computed step by step, so that nothing is rounded
// beyond the arithmetic of float32. Ends with 1 and a message of llama.cpp where it does not load
// the file. build.sh builds it.
#include <llama.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

namespace {

void quiet(ggml_log_level level, const char* text, void*) {
  if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
}

int print_logits(llama_model* model, uint32_t room, std::vector<llama_token> tokens) {
  llama_context_params params = llama_context_default_params();
  params.n_ctx = room;
  params.n_batch = params.n_ubatch = static_cast<uint32_t>(tokens.size());
  params.n_threads = params.n_threads_batch = 1;
  params.type_k = params.type_v = GGML_TYPE_F32;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  const std::unique_ptr<llama_context, decltype(&llama_free)> context(
      llama_init_from_model(model, params), llama_free);
  if (!context) return 1;
  const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
  const auto count = static_cast<int32_t>(tokens.size());
  llama_batch batch = llama_batch_init(count, 0, 1);
  batch.n_tokens = count;
  for (int32_t i = 0; i < count; ++i) {
    batch.token[i] = tokens[static_cast<size_t>(i)];
    batch.pos[i] = i;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = 1;
  }
  const int failed = llama_decode(context.get(), batch);
  for (int32_t i = 0; failed == 0 && i < count; ++i) {
    std::fwrite(llama_get_logits_ith(context.get(), i), sizeof(float),
                static_cast<size_t>(vocabulary), stdout);
  }
  llama_batch_free(batch);
  return failed == 0 ? 0 : 1;
}

int print_tokens(const llama_model* model) {
  const llama_vocab* vocabulary = llama_model_get_vocab(model);
  for (std::string line; std::getline(std::cin, line);) {
    std::replace(line.begin(), line.end(), '\x1e', '\n');
    std::vector<llama_token> tokens(line.size() + 16);
    const int count =
        llama_tokenize(vocabulary, line.data(), static_cast<int32_t>(line.size()), tokens.data(),
                       static_cast<int32_t>(tokens.size()), true, true);
    if (count < 0) return 1;
    for (int i = 0; i < count; ++i) std::printf("%d ", tokens[static_cast<size_t>(i)]);
    std::putchar('\n');
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  llama_log_set(quiet, nullptr);
  llama_backend_init();
  const bool only_tokens = std::strcmp(argv[2], "tokens") == 0;
  llama_model_params params = llama_model_default_params();
  params.vocab_only = only_tokens;
  const std::unique_ptr<llama_model, decltype(&llama_model_free)> model(
      llama_model_load_from_file(argv[1], params), llama_model_free);
  if (!model) return 1;
  if (only_tokens) return print_tokens(model.get());
  if (argc < 5) return 2;
  std::vector<llama_token> tokens;
  for (int i = 4; i < argc; ++i) tokens.push_back(std::atoi(argv[i]));
  return print_logits(model.get(), static_cast<uint32_t>(std::atoi(argv[3])), tokens);
}
