// What the benchmarks of the forward pass share: a backend that takes the time of what it computes,
// and the linear layers alone.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "bench.h"
#include "compute/forwarding_backend.h"
#include "memory_model.h"

namespace lewis {

// Counts the seconds of the linear layers and of the recurrences.
class TimedBackend final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  double linear_seconds = 0, recurrence_seconds = 0;

  void linear(std::span<const LinearCall> calls, const float* x, int64_t rows) override {
    linear_seconds += seconds_of([&] { inner_.linear(calls, x, rows); });
  }
  void delta_rule(std::span<const DeltaHead> heads) override {
    recurrence_seconds += seconds_of([&] { inner_.delta_rule(heads); });
  }
  void scan_states(std::span<const StateHeads> heads) override {
    recurrence_seconds += seconds_of([&] { inner_.scan_states(heads); });
  }
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
