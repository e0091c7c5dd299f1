// The forward pass against the matrix multiplication that limits it, and generation.
#include <cstring>
#include <filesystem>
#include <random>

#include "bench.h"
#include "compute/backend.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "model/transformer.h"

namespace lewis {
namespace {

std::vector<uint16_t> random_bf16(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint16_t> values(n);
  for (uint16_t& v : values)
    v = float_to_bf16(static_cast<float>(random()) * 0x1p-32f * 0.05f - 0.025f);
  return values;
}

// Weights of one block's shape, served for every layer: no disk in the measurement.
class MemoryModel final : public TensorSource {
 public:
  explicit MemoryModel(const ModelSpec& spec) {
    const int64_t q = spec.heads * spec.head_dim, kv = spec.kv_heads * spec.head_dim,
                  h = spec.hidden, i = spec.intermediate;
    add("model.embed_tokens.weight", {spec.vocab, h});
    add("model.norm.weight", {h});
    for (int64_t layer = 0; layer < spec.layers; ++layer) {
      const std::vector<Shape> shapes = {{q, h}, {kv, h}, {kv, h}, {h, q}, {i, h}, {i, h}, {h, i}};
      const auto names = linear_names(spec, layer);
      for (size_t n = 0; n < names.size(); ++n) add(names[n] + ".weight", shapes[n]);
      add(fmt::format("model.layers.{}.input_layernorm.weight", layer), {h});
      add(fmt::format("model.layers.{}.post_attention_layernorm.weight", layer), {h});
    }
    std::sort(tensors_.begin(), tensors_.end(),
              [](const auto& a, const auto& b) { return a.name < b.name; });
    values_ = random_bf16(largest_, 1);
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

ModelSpec bench_spec() {
  const int64_t hidden = bench_small() ? 576 : 2048;
  const Json config = {{"model_type", "llama"},
                       {"hidden_size", hidden},
                       {"intermediate_size", hidden * 4},
                       {"num_hidden_layers", 2},
                       {"num_attention_heads", hidden / 64},
                       {"num_key_value_heads", hidden / 64 / 3 > 3 ? 8 : 3},
                       {"head_dim", 64},
                       {"vocab_size", 1000},
                       {"tie_word_embeddings", true}};
  return read_model_spec(config, "bench");
}

double linear_flops(const ModelSpec& s, int64_t rows) {
  const double q = static_cast<double>(s.heads * s.head_dim),
               kv = static_cast<double>(s.kv_heads * s.head_dim), h = static_cast<double>(s.hidden),
               i = static_cast<double>(s.intermediate);
  return 2.0 * static_cast<double>(rows) * (2 * q * h + 2 * kv * h + 3 * h * i);
}

double matmul_gflops(Backend& backend, const ModelSpec& s, int64_t rows) {
  const auto weight = random_bf16(static_cast<size_t>(s.intermediate * s.hidden), 2);
  const auto packed = backend.pack(DType::kBF16, reinterpret_cast<const std::byte*>(weight.data()),
                                   s.intermediate, s.hidden);
  std::vector<float> x(static_cast<size_t>(rows * s.hidden), 0.5f),
      y(static_cast<size_t>(rows * s.intermediate));
  const double seconds =
      median_seconds([&] { backend.linear(*packed, {}, x.data(), rows, y.data()); });
  return 2.0 * static_cast<double>(rows * s.hidden * s.intermediate) / seconds / 1e9;
}

void forward() {
  const ModelSpec spec = bench_spec();
  const MemoryModel model(spec);
  const std::vector<std::vector<int32_t>> sequences(15, std::vector<int32_t>(512, 7));
  fmt::print("{} layers of hidden {}, intermediate {}; 15 sequences of 512 tokens, float32\n\n",
             spec.layers, spec.hidden, spec.intermediate);
  fmt::print("{:<12}{:>22}{:>26}{:>22}{:>12}\n", "threads", "matmul alone GFLOP/s",
             "linears of blocks GFLOP/s", "of matmul alone", "tokens/s");
  for (const size_t count : {1, 2}) {
    Threads threads(count);
    const auto backend = make_cpu_backend(threads);
    const Transformer transformer(model, spec, *backend, threads);
    const TokenBatch batch = make_batch(sequences);
    const auto rows = static_cast<int64_t>(batch.ids.size());
    const double limit = matmul_gflops(*backend, spec, 2048);
    const double seconds = median_seconds([&] { run_layers(transformer, batch, {}); }, 3);
    const double found =
        linear_flops(spec, rows) * static_cast<double>(spec.layers) / seconds / 1e9;
    fmt::print("{:<12}{:>22.0f}{:>26.0f}{:>22.2f}{:>12.0f}\n", count, limit, found, found / limit,
               static_cast<double>(rows) / seconds);
  }
}

void generation() {
  const std::filesystem::path folder = "demo/models/base";
  const Checkpoint checkpoint = Checkpoint::open(folder);
  fmt::print(
      "\ngeneration, demo/models/base (1.7 M parameters), 64 prompts of 60 tokens, 100 new tokens "
      "each\n\n{:<12}{:>12}\n",
      "threads", "tokens/s");
  for (const size_t count : {1, 2}) {
    Threads threads(count);
    const auto backend = make_cpu_backend(threads);
    const Transformer model(checkpoint, read_model_spec(checkpoint.config(), folder.string()),
                            *backend, threads);
    const std::vector<std::vector<int32_t>> prompts(64, std::vector<int32_t>(60, 11));
    const double seconds =
        median_seconds([&] { generate_greedy(model, prompts, {.max_new_tokens = 100}); }, 3);
    fmt::print("{:<12}{:>12.0f}\n", count, 6400 / seconds);
  }
}

}  // namespace
}  // namespace lewis

int main() {
  lewis::forward();
  lewis::generation();
}
