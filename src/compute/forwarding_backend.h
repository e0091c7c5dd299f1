// A backend that another one computes for: the base of those that change some of its functions.
#pragma once

#include <memory>
#include <span>
#include <utility>

#include "compute/backend.h"

namespace lewis {

// Every function is that of `inner`, which must live as long.
class ForwardingBackend : public Backend {
 public:
  explicit ForwardingBackend(Backend& inner) : inner_(inner) {}

  ComputeType compute_type() const override { return inner_.compute_type(); }
  std::unique_ptr<PackedWeight> pack(DType dtype, const std::byte* weight, int64_t out,
                                     int64_t in) override {
    return inner_.pack(dtype, weight, out, in);
  }
  std::unique_ptr<PackedWeight> keep(DType dtype, std::shared_ptr<const std::byte> weight,
                                     int64_t out, int64_t in) override {
    return inner_.keep(dtype, std::move(weight), out, in);
  }
  using Backend::linear;
  void linear(std::span<const LinearCall> calls, const float* x, int64_t rows) override {
    inner_.linear(calls, x, rows);
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
  void delta_rule(std::span<const DeltaHead> heads) override { inner_.delta_rule(heads); }
  void scan_states(std::span<const StateHeads> heads) override { inner_.scan_states(heads); }
  void activate(Activation activation, float* gate, const float* up, int64_t n) override {
    inner_.activate(activation, gate, up, n);
  }
  void add(float* x, const float* y, int64_t n) override { inner_.add(x, y, n); }
  void scale(float* x, float factor, int64_t n) override { inner_.scale(x, factor, n); }
  void softcap(float* x, float cap, int64_t n) override { inner_.softcap(x, cap, n); }

 protected:
  Backend& inner_;
};

}  // namespace lewis
