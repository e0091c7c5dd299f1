// The blocks of GGUF on one thread: rounding a matrix, without and with importances, and reading it
// again. The limit is a copy of the floats. docs/gguf.md has ggml's own times.
#include <cstring>
#include <random>

#include "bench.h"
#include "io/gguf_types.h"

namespace lewis {
namespace {

class BlockBench {
 public:
  BlockBench(size_t rows, size_t columns) : rows_(rows), columns_(columns) {
    std::mt19937 draw(1);
    std::normal_distribution<float> weight(0, 0.02f), importance(0, 5);
    values_.resize(rows * columns);
    for (float& v : values_) v = weight(draw);
    importances_.resize(columns);
    for (float& v : importances_) v = std::abs(importance(draw));
    out_.resize(values_.size());
  }

  double copy() {
    return ns([&] { std::memcpy(out_.data(), values_.data(), bytes()); });
  }

  double encode(GgufType type, bool weighted) {
    const uint64_t row = gguf_bytes(type, static_cast<int64_t>(columns_));
    blocks_.resize(rows_ * row);
    return ns([&] {
      for (size_t r = 0; r < rows_; ++r) {
        encode_gguf(type, std::span(values_).subspan(r * columns_, columns_),
                    weighted ? std::span<const float>(importances_) : std::span<const float>(),
                    blocks_.data() + r * row);
      }
    });
  }

  double decode(GgufType type) {
    blocks_.resize(gguf_bytes(type, static_cast<int64_t>(values_.size())));
    return ns([&] { decode_gguf(type, blocks_.data(), out_); });
  }

 private:
  size_t bytes() const { return values_.size() * sizeof(float); }
  double ns(const std::function<void()>& work) const {
    return 1e9 * least_seconds(work, 3) / static_cast<double>(values_.size());
  }

  size_t rows_, columns_;
  std::vector<float> values_, importances_, out_;
  std::vector<std::byte> blocks_;
};

void run() {
  BlockBench bench(bench_size<size_t>(1024, 256, 4), 4096);
  const double copy = bench.copy();
  fmt::print("{:<10}{:>12}{:>12}{:>12}{:>16}\n", "ns/number", "encode", "weighted", "decode",
             "copy / encode");
  fmt::print("{:<10}{:>12.2f}\n", "copy", copy);
  for (const GgufTypeInfo& type : gguf_types()) {
    if (type.type == GgufType::kQ2_K || type.type == GgufType::kQ3_K) {
      fmt::print("{:<10}{:>36.2f}\n", type.name, bench.decode(type.type));
      continue;
    }
    const double encode = bench.encode(type.type, false), weighted = bench.encode(type.type, true);
    fmt::print("{:<10}{:>12.2f}{:>12.2f}{:>12.2f}{:>16.2f}\n", type.name, encode, weighted,
               bench.decode(type.type), copy / encode);
  }
}

}  // namespace
}  // namespace lewis

int main() { lewis::run(); }
