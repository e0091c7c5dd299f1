// Merge methods on tensors in memory: bf16, a base and two experts, the deltas of real fine-tunes
// (small against the base, so that most entries do not change at all in bf16 and many tie). The
// limit is a pass that reads the same bytes and writes the same bytes and does nothing else.
#include <cmath>
#include <random>

#include "base/page_buffer.h"
#include "bench.h"
#include "merge/tensor/merge_tensor.h"

namespace lewis {
namespace {

struct Inputs {
  PageBuffer memory[4];
  std::span<uint16_t> base, experts[2], out;

  explicit Inputs(size_t n) {
    std::span<uint16_t>* spans[] = {&base, &experts[0], &experts[1], &out};
    for (size_t i = 0; i < 4; ++i)
      *spans[i] = {reinterpret_cast<uint16_t*>(memory[i].get(2 * n).data()), n};
  }
};

Inputs make_inputs(size_t n) {
  Inputs in(n);
  std::mt19937_64 random(1);
  const auto uniform = [&] { return static_cast<float>(random() >> 40) * 0x1p-24f - 0.5f; };
  for (size_t i = 0; i < n; ++i) {
    const float b = (uniform() + uniform() + uniform()) * 0.04f;
    in.base[i] = float_to_bf16(b);
    for (auto& expert : in.experts) expert[i] = float_to_bf16(b + (uniform() + uniform()) * 3e-4f);
  }
  return in;
}

StoredTensor stored(std::span<const uint16_t> values) {
  return {DType::kBF16, std::as_bytes(values), "bench"};
}

// Reads three streams and writes one.
LEWIS_VECTORIZED void copy_piece(const uint16_t* a, const uint16_t* b, const uint16_t* c, size_t n,
                                 uint16_t* out) {
  for (size_t i = 0; i < n; ++i) out[i] = static_cast<uint16_t>(a[i] ^ b[i] ^ c[i]);
}

double floor_seconds(Inputs& in, Threads& threads) {
  const size_t n = in.base.size();
  constexpr size_t kPiece = 1 << 16;
  return median_seconds([&] {
    threads.run((n + kPiece - 1) / kPiece, [&](size_t p) {
      const size_t at = p * kPiece;
      copy_piece(&in.base[at], &in.experts[0][at], &in.experts[1][at], std::min(kPiece, n - at),
                 &in.out[at]);
    });
  });
}

// A method as a row of the table; density: of methods that read one, or sce's share of entries.
struct Row {
  std::string name;
  std::string_view method;
  double density = 1;
};

std::vector<Row> rows_of(std::string_view only) {
  std::vector<Row> rows;
  for (const std::string_view name : merge_method_names()) {
    if (!only.empty() && name != only) continue;
    const bool selects = find_merge_method(name).reads("select_topk");
    if (!find_merge_method(name).reads("density")) rows.push_back({std::string(name), name, 1});
    if (selects) rows.push_back({fmt::format("{} 0.5", name), name, 0.5});
    if (!find_merge_method(name).reads("density")) continue;
    for (const double density : {0.2, 0.5})
      rows.push_back({fmt::format("{} {}", name, density), name, density});
  }
  return rows;
}

double row_seconds(const Row& row, Inputs& in, Threads& threads) {
  const MergeMethod& method = find_merge_method(row.method);
  TensorTask task;
  task.name = "bench";
  task.set("t", 0.3);
  task.set("select_topk", row.density);
  task.count = static_cast<int64_t>(in.base.size());
  task.shape = {task.count / 4096, 4096};
  const size_t models = std::min<size_t>(2, method.max_models);
  for (uint64_t m = 0; m < models; ++m) {
    ModelParameters& p = task.models.emplace_back(TensorRandom(0, m, task.name));
    p.set("weight", m == 0 ? 1.0 : 0.5);
    p.set("density", row.density);
  }
  set_defaults(method, task);
  const StoredTensor base = stored(in.base);
  const StoredTensor experts[] = {stored(in.experts[0]), stored(in.experts[1])};
  return median_seconds([&] {
    merge_tensor(method, task, method.base == BaseRole::kApart ? &base : nullptr,
                 std::span(experts).first(models), DType::kBF16, std::as_writable_bytes(in.out),
                 threads);
  });
}

void run(std::string_view only) {
  const size_t n = bench_size<size_t>(58 << 20, 4 << 20, 1 << 18);
  Inputs in = make_inputs(n);
  size_t same = 0;
  for (size_t i = 0; i < n; ++i) same += in.base[i] == in.experts[0][i];
  fmt::print(
      "{:.1f} M parameters, bf16, base and 2 experts; {:.0f} % of the entries equal the base\n\n",
      static_cast<double>(n) / 1e6, 100.0 * static_cast<double>(same) / static_cast<double>(n));
  fmt::print("{:<22}{:>16}{:>16}{:>18}{:>18}\n", "ns per parameter", "1 thread", "2 threads",
             "of copy, 1 thread", "of copy, 2");
  Threads one(1), two(2);
  const double scale = 1e9 / static_cast<double>(n);
  const double floor_one = floor_seconds(in, one), floor_two = floor_seconds(in, two);
  fmt::print("{:<22}{:>16.2f}{:>16.2f}{:>18}{:>18}\n", "copy (the limit)", floor_one * scale,
             floor_two * scale, "1.00", "1.00");
  constexpr double kSlow = 3;  // ns per parameter on one thread
  std::string slow;
  for (const Row& row : rows_of(only)) {
    const double a = row_seconds(row, in, one), b = row_seconds(row, in, two);
    fmt::print("{:<22}{:>16.2f}{:>16.2f}{:>18.2f}{:>18.2f}\n", row.name, a * scale, b * scale,
               floor_one / a, floor_two / b);
    if (a * scale > kSlow)
      slow += fmt::format("{}{} ({:.1f})", slow.empty() ? "" : ", ", row.name, a * scale);
  }
  fmt::print("\nmore than {} ns per parameter on one thread: {}\n", kSlow,
             slow.empty() ? "none" : slow);
}

}  // namespace
}  // namespace lewis

// usage: merge_bench [METHOD]
int main(int argc, char** argv) { lewis::run(argc > 1 ? argv[1] : ""); }
