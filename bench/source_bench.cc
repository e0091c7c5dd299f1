// Tensors that are made while they are read, on one thread: a LoRA adapter on a bf16 matrix of
// 4096 x 4096, float8 weights in blocks of 128 x 128. The limit is a copy of the same bytes.
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "base/json.h"
#include "bench.h"
#include "io/quantized_source.h"
#include "io/safetensors.h"
#include "merge/sources/adapter_source.h"

namespace lewis {
namespace {

// Tensors in memory, all filled with the same small values.
class MemorySource final : public TensorSource {
 public:
  explicit MemorySource(std::vector<TensorInfo> tensors) : tensors_(std::move(tensors)) {
    for (const TensorInfo& t : tensors_) bytes_.emplace_back(byte_size(t));
    std::mt19937 random(1);
    for (size_t i = 0; i < tensors_.size(); ++i) {
      const DType dtype = tensors_[i].dtype;
      for (size_t at = 0; at < bytes_[i].size(); at += dtype_size(dtype)) {
        const float value = static_cast<float>(random() % 2001) * 1e-5f - 0.01f;
        if (is_arithmetic(dtype)) {
          narrow(std::span(&value, 1), dtype, &bytes_[i][at]);
        } else {
          bytes_[i][at] = static_cast<std::byte>(random() % 0x7f);
        }
      }
    }
  }
  const std::string& label() const override { return label_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const override {
    size_t i = 0;
    while (tensors_[i].name != tensor.name) ++i;
    std::memcpy(out.data(), &bytes_[i][static_cast<size_t>(first) * dtype_size(tensor.dtype)],
                out.size());
  }
  void write(const std::filesystem::path& file) const {
    std::vector<std::span<const std::byte>> data(bytes_.begin(), bytes_.end());
    write_safetensors(file, tensors_, data, {});
  }

 private:
  std::string label_ = "memory";
  std::vector<TensorInfo> tensors_;
  std::vector<std::vector<std::byte>> bytes_;
};

void row(const std::string& name, const TensorSource& source, double& copy) {
  const TensorInfo& tensor = source.get("m.weight");
  std::vector<std::byte> out(byte_size(tensor));
  const double ns = median_seconds([&] { source.read(tensor, 0, out); }) * 1e9 /
                    static_cast<double>(element_count(tensor.shape));
  if (copy == 0) copy = ns;
  fmt::print("{:<24}{:>18.2f}{:>12.2f}\n", name, ns, copy / ns);
}

void run() {
  const int64_t size = bench_size(4096, 1024, 512);
  std::string folder = (std::filesystem::temp_directory_path() / "lewis-bench-XXXXXX").string();
  if (!mkdtemp(folder.data())) throw std::runtime_error("mkdtemp failed");
  const auto base = std::make_shared<MemorySource>(
      std::vector<TensorInfo>{{"m.weight", DType::kBF16, {size, size}}});
  double copy = 0;
  fmt::print("{:<24}{:>18}{:>12}\n", "", "ns per parameter", "of copy");
  row("copy (the limit)", *base, copy);
  for (const bool dora : {false, true}) {
    for (const int64_t rank : {16, 64, 256}) {
      if (dora && rank != 16) continue;
      std::vector<TensorInfo> tensors = {{"m.lora_A.weight", DType::kF32, {rank, size}},
                                         {"m.lora_B.weight", DType::kF32, {size, rank}}};
      if (dora) tensors.push_back({"m.lora_magnitude_vector", DType::kF32, {size}});
      MemorySource(tensors).write(folder + "/adapter_model.safetensors");
      std::ofstream(folder + "/adapter_config.json") << fmt::format(
          R"({{"peft_type": "LORA", "r": {}, "lora_alpha": 16, "use_dora": {}}})", rank, dora);
      row(fmt::format("{}, r = {}", dora ? "DoRA" : "LoRA", rank), *adapt(base, folder).source,
          copy);
    }
  }
  std::filesystem::remove_all(folder);
  const auto fp8 = std::make_shared<MemorySource>(
      std::vector<TensorInfo>{{"m.weight", DType::kF8E4M3, {size, size}},
                              {"m.weight_scale_inv", DType::kF32, {size / 128, size / 128}}});
  const Json config{
      {"quantization_config", {{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}}}};
  row("float8 to bf16", *widen_quantized(fp8, config).source, copy);
}

}  // namespace
}  // namespace lewis

int main() { lewis::run(); }
