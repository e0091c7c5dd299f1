// The arithmetic of a transformer behind one interface. A backend is a folder of compute/ that
// implements it; tests compare each function with a plain version. All matrices are row-major
// floats. Results do not depend on the number of threads.
#pragma once

#include <lewis/options.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/dtype.h"
#include "compute/recurrence.h"

namespace lewis {

class Threads;

constexpr std::string_view compute_type_name(ComputeType type) {
  return type == ComputeType::kF32 ? "f32" : "bf16";
}

// A weight [out, in] in the layout that the backend multiplies fastest.
class PackedWeight {
 public:
  virtual ~PackedWeight() = default;
  int64_t out = 0, in = 0;
};

enum class Activation { kSilu, kGelu, kGeluTanh, kRelu, kRelu2 };  // kRelu2: max(x, 0)^2

// A factor for each value of a product: activation(x * weight^T (+ bias)). Its weight has the same
// shape as the product's.
struct Gate {
  const PackedWeight& weight;
  std::span<const float> bias;
  Activation activation;
};

// One of several products of the same inputs: y[rows, out] = x * weight^T (+ bias[out] unless it is
// empty), multiplied by the gate if the call has one.
struct LinearCall {
  const PackedWeight& weight;
  std::span<const float> bias;
  float* y = nullptr;
  const Gate* gate = nullptr;
};

// One sequence of an attention call. Query head h uses key and value head h / (heads / kv_heads).
struct AttentionRows {
  int64_t first_query = 0, queries = 0;  // rows of q and of the result
  const float* keys = nullptr;           // [first_position + queries, kv_heads * head_dim]
  const float* values = nullptr;         // the same shape
  int64_t first_position = 0;            // query i sees keys [0, first_position + i]
};

struct AttentionShape {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  float scale = 0;
  int64_t window = 0;  // query i sees the last `window` of its keys; 0 means all
  float softcap = 0;   // scores become softcap * tanh(score / softcap); 0 means none
  int64_t chunk = 0;   // query i sees no keys before the last multiple of this; 0 means all
  // [heads]: one more score for each query of the head, which has no value; empty means none.
  std::span<const float> sinks = {};
};

// The two values of a head that rotary embeddings turn together: (i, i + rotary / 2) or (2 i, 2 i +
// 1).
enum class RopePairs { kHalves, kNeighbours };

class Backend {
 public:
  virtual ~Backend() = default;

  virtual ComputeType compute_type() const = 0;
  // Packs a weight [out, in] of F32, BF16 or F16, as it is stored, for many rows.
  virtual std::unique_ptr<PackedWeight> pack(DType dtype, const std::byte* weight, int64_t out,
                                             int64_t in) = 0;
  // Keeps the same weight as it is stored, for few rows (generation): a product then takes the time
  // of reading the weight once. A value of the result depends on its row and column alone.
  virtual std::unique_ptr<PackedWeight> keep(DType dtype, std::shared_ptr<const std::byte> weight,
                                             int64_t out, int64_t in) = 0;
  // Computes the products of x [rows, in] that `calls` name. Their weights are all packed or all
  // kept.
  virtual void linear(std::span<const LinearCall> calls, const float* x, int64_t rows) = 0;
  void linear(const PackedWeight& weight, std::span<const float> bias, const float* x, int64_t rows,
              float* y) {
    const LinearCall call{weight, bias, y};
    linear(std::span(&call, 1), x, rows);
  }
  // y = x * rsqrt(mean(x^2) + epsilon) * weight, per row of `columns`; y may be x.
  virtual void rms_norm(const float* x, int64_t rows, int64_t columns,
                        std::span<const float> weight, float epsilon, float* y) = 0;
  // y = (x - mean(x)) * rsqrt(variance(x) + epsilon) * weight (+ bias unless it is empty), per row;
  // y may be x.
  virtual void layer_norm(const float* x, int64_t rows, int64_t columns,
                          std::span<const float> weight, std::span<const float> bias, float epsilon,
                          float* y) = 0;
  // Rotary position embedding, in place on x [rows, heads, head_dim]: turns the pairs of the first
  // 2 * inverse_frequency.size() values of each head by the angle positions[row] *
  // inverse_frequency[i]. `factor` multiplies the cosines and sines.
  virtual void rope(float* x, int64_t rows, int64_t heads, int64_t head_dim,
                    std::span<const int64_t> positions, std::span<const float> inverse_frequency,
                    float factor, RopePairs pairs) = 0;
  // out[rows, heads * head_dim] = softmax(scale * q k^T, causal) v.
  virtual void attention(const AttentionShape& shape, std::span<const AttentionRows> sequences,
                         const float* q, float* out) = 0;
  // The gated delta rule of several heads, and the state space of several groups of heads; no two
  // of them share a state or an output. A head's result depends neither on the others nor on the
  // number of threads.
  virtual void delta_rule(std::span<const DeltaHead> heads) = 0;
  virtual void scan_states(std::span<const StateHeads> heads) = 0;
  // gate = activation(gate) * up, n values. If up is null: gate = activation(gate).
  virtual void activate(Activation activation, float* gate, const float* up, int64_t n) = 0;
  // x += y, n values.
  virtual void add(float* x, const float* y, int64_t n) = 0;
  // x *= factor, n values.
  virtual void scale(float* x, float factor, int64_t n) = 0;
  // x = cap * tanh(x / cap), n values.
  virtual void softcap(float* x, float cap, int64_t n) = 0;
};

// The backend of compute/cpu on the caller's threads. It uses oneDNN in float32 and own products in
// bfloat16.
std::unique_ptr<Backend> make_cpu_backend(Threads& threads, ComputeType type = ComputeType::kF32);

}  // namespace lewis
