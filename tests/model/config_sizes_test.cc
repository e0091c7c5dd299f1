// Sizes in config.json that no model has cost nothing: they are refused before anything is made for
// each layer or expert.
#include <gtest/gtest.h>

#include <ctime>

#include "base/error.h"
#include "base/json.h"
#include "model/model_spec.h"

namespace lewis {
namespace {

TEST(ConfigSizes, HugeNumbersOfPartsAreRefusedAtOnce) {
  const Json llama = {{"model_type", "llama"},    {"hidden_size", 64},
                      {"intermediate_size", 112}, {"num_hidden_layers", 4},
                      {"num_attention_heads", 4}, {"num_key_value_heads", 2},
                      {"vocab_size", 256}};
  Json moe = llama;
  moe.update(Json{{"model_type", "qwen3_moe"},
                  {"num_experts", 8},
                  {"num_experts_per_tok", 2},
                  {"moe_intermediate_size", 32},
                  {"head_dim", 16}});
  EXPECT_NO_THROW(read_model_spec(llama, "config.json"));
  EXPECT_NO_THROW(read_model_spec(moe, "config.json"));
  for (const char* key : {"num_hidden_layers", "num_experts", "head_dim", "hidden_size"}) {
    for (const int64_t size : {int64_t{1'000'000'000}, int64_t{1} << 40, int64_t{-1}}) {
      Json config = moe;
      config[key] = size;
      const std::clock_t begin = std::clock();
      if (size == 1'000'000'000 && key == std::string("hidden_size")) {
        EXPECT_NO_THROW(read_model_spec(config, "config.json"));  // the tensors' shapes refuse it
      } else {
        try {
          read_model_spec(config, "config.json");
          ADD_FAILURE() << key << " " << size;
        } catch (const Error& e) {
          EXPECT_EQ(e.code(), ExitCode::kInput);
          EXPECT_NE(std::string(e.what()).find(key), std::string::npos) << e.what();
        }
      }
      EXPECT_LT(std::clock() - begin, CLOCKS_PER_SEC) << key;
    }
  }
}

}  // namespace
}  // namespace lewis
