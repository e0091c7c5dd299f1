// The keys that only a family has, and what llama.cpp cannot be told of it. Each function checks
// what is fixed in llama.cpp: Error(kInput) where the model differs.
#pragma once

namespace lewis {

class KeyWriter;

void write_cohere2(KeyWriter& keys);
void write_gemma(KeyWriter& keys);
void write_gemma2(KeyWriter& keys);
void write_gemma3(KeyWriter& keys);
void write_glm4(KeyWriter& keys);
void write_gpt_oss(KeyWriter& keys);
void write_granite(KeyWriter& keys);
void write_lfm2(KeyWriter& keys);
void write_olmo2(KeyWriter& keys);
void write_phi3(KeyWriter& keys);
void write_qwen35(KeyWriter& keys);
void write_smollm3(KeyWriter& keys);
void write_starcoder2(KeyWriter& keys);

}  // namespace lewis
