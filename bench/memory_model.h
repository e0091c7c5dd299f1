// Models of random weights for the benchmarks.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"
#include "io/tensor_source.h"
#include "model/block_steps.h"

namespace lewis {

inline std::vector<uint16_t> random_bf16(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint16_t> values(n);
  for (uint16_t& v : values)
    v = float_to_bf16(static_cast<float>(random()) * 0x1p-32f * 0.05f - 0.025f);
  return values;
}

// A llama of these shapes, its head tied to the embedding.
inline ModelSpec llama_spec(int64_t hidden, int64_t intermediate, int64_t heads, int64_t kv_heads,
                            int64_t vocab, int64_t layers) {
  const Json config = {{"model_type", "llama"},
                       {"hidden_size", hidden},
                       {"intermediate_size", intermediate},
                       {"num_hidden_layers", layers},
                       {"num_attention_heads", heads},
                       {"num_key_value_heads", kv_heads},
                       {"vocab_size", vocab},
                       {"tie_word_embeddings", true}};
  return read_model_spec(config, "bench");
}

// A model of random weights, the same for every tensor of a size: no disk in a measurement.
class MemoryModel final : public TensorSource {
 public:
  explicit MemoryModel(const ModelSpec& spec, uint32_t seed = 1) {
    add(fmt::format("{}{}.weight", spec.prefix, spec.embeddings), {spec.vocab, spec.hidden});
    if (!spec.tied_head) add(spec.head + "weight", {spec.vocab, spec.hidden});
    add(fmt::format("{}{}.weight", spec.prefix, spec.final_norm), {spec.hidden});
    std::set<std::string> fused;  // tensors that hold several linear layers
    for (int64_t layer = 0; layer < spec.layers; ++layer) {
      const BlockSteps block = block_steps(spec, layer);
      for (const LinearLayer& linear : block.linears) {
        if (fused.insert(linear.tensor).second) add(linear.tensor, linear.shape);
      }
      for (const BlockNorm& norm : block.norms) add(norm.name + ".weight", {norm.width});
      for (const OwnTensor& tensor : block.own) add(tensor.name, tensor.shape);
    }
    std::sort(tensors_.begin(), tensors_.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    values_ = random_bf16(largest_, seed);
  }
  const std::string& label() const override { return label_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void read(const TensorInfo&, int64_t first, std::span<std::byte> out) const override {
    std::memcpy(out.data(), values_.data() + first, out.size());
  }

 private:
  void add(const std::string& name, const Shape& shape) {
    tensors_.push_back({name, DType::kBF16, shape});
    largest_ = std::max(largest_, static_cast<size_t>(element_count(shape)));
  }

  std::string label_ = "memory";
  std::vector<TensorInfo> tensors_;
  size_t largest_ = 0;
  std::vector<uint16_t> values_;
};

}  // namespace lewis
