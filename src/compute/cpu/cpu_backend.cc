#include <algorithm>
#include <array>
#include <list>
#include <vector>

#include "base/error.h"
#include "base/threads.h"
#include "compute/backend.h"
#include "compute/cpu/attention.h"
#include "compute/cpu/bf16_matmul.h"
#include "compute/cpu/delta_rule.h"
#include "compute/cpu/kernels.h"
#include "compute/cpu/matmul.h"
#include "compute/cpu/rope_table.h"
#include "compute/cpu/state_space.h"
#include "compute/cpu/stored_matmul.h"
#include "compute/float_buffer.h"

namespace lewis {
namespace {

constexpr int64_t kPieceValues = 32'768;     // per piece of a loop that threads share
constexpr int64_t kParallelValues = 65'536;  // below this number one thread is faster
// Models need one table, or two if they have local and global layers. Where the frequencies follow
// the length of a sequence, their number is unlimited, so only the latest are kept.
constexpr size_t kRopeTables = 8;

class CpuBackend final : public Backend {
 public:
  CpuBackend(Threads& threads, ComputeType type)
      : threads_(threads),
        type_(type),
        bf16_matmul_(type),
        attention_(type),
        stored_matmul_(type) {}

  ComputeType compute_type() const override { return type_; }

  std::unique_ptr<PackedWeight> pack(DType dtype, const std::byte* weight, int64_t out,
                                     int64_t in) override {
    if (bf16_matmul_.takes(dtype)) return bf16_matmul_.pack(dtype, weight, out, in, threads_);
    return matmul_.pack(dtype, weight, out, in, threads_);
  }

  std::unique_ptr<PackedWeight> keep(DType dtype, std::shared_ptr<const std::byte> weight,
                                     int64_t out, int64_t in) override {
    auto kept = std::make_unique<StoredWeight>();
    kept->out = out;
    kept->in = in;
    kept->dtype = dtype;
    kept->bytes = std::move(weight);
    return kept;
  }

  void linear(std::span<const LinearCall> calls, const float* x, int64_t rows) override {
    if (calls.empty()) return;
    if (all_of<Bf16Weight>(calls)) return bf16_matmul_.multiply(calls, x, rows, threads_);
    if (all_of<PanelWeight>(calls)) return matmul_.multiply(calls, x, rows, threads_);
    if (all_of<StoredWeight>(calls) &&
        std::ranges::none_of(calls, [](const LinearCall& call) { return call.gate; })) {
      return stored_matmul_.multiply(calls, x, rows, threads_);
    }
    for (const LinearCall& call : calls) linear_apart(call, x, rows);
  }

  void rms_norm(const float* x, int64_t rows, int64_t columns, std::span<const float> weight,
                float epsilon, float* y) override {
    for_pieces(rows, columns, [&](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r) {
        kernels_.rms_norm(x + r * columns, weight.data(), columns, epsilon, y + r * columns);
      }
    });
  }

  void layer_norm(const float* x, int64_t rows, int64_t columns, std::span<const float> weight,
                  std::span<const float> bias, float epsilon, float* y) override {
    for_pieces(rows, columns, [&](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r) {
        kernels_.layer_norm(x + r * columns, weight.data(), bias.empty() ? nullptr : bias.data(),
                            columns, epsilon, y + r * columns);
      }
    });
  }

  void rope(float* x, int64_t rows, int64_t heads, int64_t head_dim,
            std::span<const int64_t> positions, std::span<const float> inverse_frequency,
            float factor, RopePairs pairs) override {
    if (rows == 0) return;
    const RopeTable& table = rope_table(inverse_frequency, factor,
                                        1 + *std::max_element(positions.begin(), positions.end()));
    const auto turn = pairs == RopePairs::kHalves ? kernels_.rope : kernels_.rope_neighbours;
    for_pieces(rows, heads * head_dim, [&](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r) {
        const int64_t position = positions[static_cast<size_t>(r)];
        turn(x + r * heads * head_dim, heads, head_dim, table.half(), table.cos(position),
             table.sin(position));
      }
    });
  }

  void attention(const AttentionShape& shape, std::span<const AttentionRows> sequences,
                 const float* q, float* out) override {
    attention_.run(shape, sequences, q, out, threads_);
  }

  void delta_rule(std::span<const DeltaHead> heads) override {
    threads_.run(heads.size(), [&](size_t i) { lewis::delta_rule(heads[i]); });
  }

  void scan_states(std::span<const StateHeads> heads) override {
    threads_.run(heads.size(), [&](size_t i) { lewis::scan_states(heads[i]); });
  }

  void activate(Activation activation, float* gate, const float* up, int64_t n) override {
    const auto kernel = kernels_.activate[static_cast<size_t>(activation)];
    for_pieces(n, 1, [&](int64_t first, int64_t last) {
      kernel(gate + first, up ? up + first : nullptr, last - first, gate + first);
    });
  }

  void add(float* x, const float* y, int64_t n) override {
    for_pieces(n, 1, [&](int64_t first, int64_t last) {
      kernels_.add(x + first, y + first, last - first);
    });
  }

  void scale(float* x, float factor, int64_t n) override {
    for_pieces(n, 1, [&](int64_t first, int64_t last) {
      kernels_.scale(x + first, factor, last - first);
    });
  }

  void softcap(float* x, float cap, int64_t n) override {
    for_pieces(
        n, 1, [&](int64_t first, int64_t last) { kernels_.softcap(x + first, cap, last - first); });
  }

 private:
  // Calls f(first, last) for pieces of rows that cover [0, rows).
  template <typename F>
  void for_pieces(int64_t rows, int64_t values_per_row, const F& f) {
    if (rows * values_per_row < kParallelValues) return f(0, rows);
    const int64_t step = std::max<int64_t>(1, kPieceValues / values_per_row);
    threads_.run(static_cast<size_t>((rows + step - 1) / step), [&](size_t i) {
      const int64_t first = static_cast<int64_t>(i) * step;
      f(first, std::min(first + step, rows));
    });
  }

  template <typename Weight>
  static bool all_of(std::span<const LinearCall> calls) {
    const auto is = [](const PackedWeight& w) {
      return dynamic_cast<const Weight*>(&w) != nullptr;
    };
    return std::ranges::all_of(calls, [&](const LinearCall& call) {
      return is(call.weight) && (!call.gate || is(call.gate->weight));
    });
  }

  // Computes one of several calls that differ in kind, or one whose gate is a separate product.
  void linear_apart(const LinearCall& call, const float* x, int64_t rows) {
    if (!call.gate) return linear(std::span(&call, 1), x, rows);
    const int64_t n = rows * call.weight.out;
    float* values = gated_.get(n);
    const std::array both = {LinearCall{call.gate->weight, call.gate->bias, call.y},
                             LinearCall{call.weight, call.bias, values}};
    linear(both, x, rows);
    activate(call.gate->activation, call.y, values, n);
  }

  const RopeTable& rope_table(std::span<const float> inverse_frequency, float factor,
                              int64_t positions) {
    auto table = std::find_if(rope_tables_.begin(), rope_tables_.end(), [&](const RopeTable& t) {
      return t.is_for(inverse_frequency, factor);
    });
    if (table == rope_tables_.end()) {
      if (rope_tables_.size() == kRopeTables) rope_tables_.pop_front();
      table = rope_tables_.emplace(rope_tables_.end(), inverse_frequency, factor);
    }
    table->reach(positions);
    return *table;
  }

  Threads& threads_;
  ComputeType type_;
  const Kernels& kernels_ = best_kernels();
  Bf16Matmul bf16_matmul_;
  Matmul matmul_;  // for weights for which the one above is slower
  CausalAttention attention_;
  StoredMatmul stored_matmul_;
  FloatBuffer gated_;                 // the factors of a gate: [rows, out]
  std::list<RopeTable> rope_tables_;  // oldest first
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(Threads& threads, ComputeType type) {
  return std::make_unique<CpuBackend>(threads, type);
}

}  // namespace lewis
