// What the benchmarks of the forward pass share: a backend that takes the time of what it computes,
// and the linear layers alone.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "bench.h"
#include "compute/backend.h"
#include "memory_model.h"

namespace lewis {

// Counts the seconds of the linear layers and of the recurrences.
class TimedBackend final : public Backend {
 public:
  explicit TimedBackend(Backend& inner) : inner_(inner) {}
  double linear_seconds = 0, recurrence_seconds = 0;

  ComputeType compute_type() const override { return inner_.compute_type(); }
  std::unique_ptr<PackedWeight> pack(DType dtype, const std::byte* weight, int64_t out,
                                     int64_t in) override {
    return inner_.pack(dtype, weight, out, in);
  }
  std::unique_ptr<PackedWeight> keep(DType dtype, std::shared_ptr<const std::byte> weight,
                                     int64_t out, int64_t in) override {
    return inner_.keep(dtype, std::move(weight), out, in);
  }
  void linear(std::span<const LinearCall> calls, const float* x, int64_t rows) override {
    linear_seconds += seconds_of([&] { inner_.linear(calls, x, rows); });
  }
  void rms_norm(const float* x, int64_t rows, int64_t columns, std::span<const float> weight,
                float epsilon, float* y) override {
    inner_.rms_norm(x, rows, columns, weight, epsilon, y);
  }
  void layer_norm(const float* x, int64_t rows, int64_t columns, std::span<const float> weight,
                  std::span<const float> bias, float epsilon, float* y) override {
    inner_.layer_norm(x, rows, columns, weight, bias, epsilon, y);
  }
  void rope(float* x, int64_t rows, int64_t heads, int64_t head_dim,
            std::span<const int64_t> positions, std::span<const float> inverse_frequency,
            float factor, RopePairs pairs) override {
    inner_.rope(x, rows, heads, head_dim, positions, inverse_frequency, factor, pairs);
  }
  void attention(const AttentionShape& shape, std::span<const AttentionRows> sequences,
                 const float* q, float* out) override {
    inner_.attention(shape, sequences, q, out);
  }
  void delta_rule(std::span<const DeltaHead> heads) override {
    recurrence_seconds += seconds_of([&] { inner_.delta_rule(heads); });
  }
  void scan_states(std::span<const StateHeads> heads) override {
    recurrence_seconds += seconds_of([&] { inner_.scan_states(heads); });
  }
  void activate(Activation activation, float* gate, const float* up, int64_t n) override {
    inner_.activate(activation, gate, up, n);
  }
  void add(float* x, const float* y, int64_t n) override { inner_.add(x, y, n); }
  void scale(float* x, float factor, int64_t n) override { inner_.scale(x, factor, n); }
  void softcap(float* x, float cap, int64_t n) override { inner_.softcap(x, cap, n); }

 private:
  Backend& inner_;
};

// Floating-point operations of one token in the linear layers of one block.
inline double block_flops(const ModelSpec& spec, int64_t layer) {
  double weights = 0;
  for (const LinearLayer& linear : linear_layers(spec, layer))
    weights += static_cast<double>(linear.out * linear.in);
  return 2 * weights;
}

// Seconds of the linear layers of one block for `rows` rows, each alone, again and again: the
// machine's own speed for these shapes.
inline double bare_seconds(Backend& backend, const ModelSpec& spec, int64_t layer, int64_t rows) {
  double seconds = 0;
  for (const LinearLayer& linear : linear_layers(spec, layer)) {
    const std::vector<float> x(static_cast<size_t>(rows * linear.in), 0.5f);
    std::vector<float> y(static_cast<size_t>(rows * linear.out));
    const std::vector<uint16_t> values =
        random_bf16(static_cast<size_t>(linear.out * linear.in), 1);
    const auto weight =
        backend.pack(DType::kBF16, std::as_bytes(std::span(values)).data(), linear.out, linear.in);
    seconds += least_seconds([&] { backend.linear(*weight, {}, x.data(), rows, y.data()); });
  }
  return seconds;
}

}  // namespace lewis
