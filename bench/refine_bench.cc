// Refinement: its products beside the bare multiplication, a 135 M pair, blocks of an 8 B model.
#include <sys/resource.h>
#include <sys/time.h>

#include <filesystem>
#include <memory>

#include "bench.h"
#include "compute/backend.h"
#include "compute/dense.h"
#include "memory_model.h"
#include "model/transformer.h"
#include "refine/refine.h"

namespace lewis {
namespace {

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double peak_gib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / (1 << 20);
}

// GFLOP/s of work on all threads, by processor time: others share the machine.
double speed(double flops, size_t threads, const std::function<void()>& work) {
  double least = 1e30;
  for (int i = 0; i < bench_size(3, 3, 1); ++i) {
    const double begin = cpu_seconds();
    work();
    least = std::min(least, cpu_seconds() - begin);
  }
  return flops / least * static_cast<double>(threads) * 1e-9;
}

void products(Threads& threads, int64_t rows, int64_t in, int64_t out) {
  std::vector<float> x(static_cast<size_t>(rows * in)), r(static_cast<size_t>(rows * out)),
      w(static_cast<size_t>(rows), 1e-4f);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>((i * 7919) % 1000) * 1e-3f - 0.5f;
  for (size_t i = 0; i < r.size(); ++i) r[i] = static_cast<float>((i * 104729) % 1000) * 1e-3f;
  const auto weight = random_bf16(static_cast<size_t>(in * out), 1);
  const auto backend = make_cpu_backend(threads);
  const auto packed =
      backend->pack(DType::kBF16, reinterpret_cast<const std::byte*>(weight.data()), out, in);
  const double n = static_cast<double>(in), m = static_cast<double>(out),
               t = static_cast<double>(rows);
  std::vector<double> gram(static_cast<size_t>(in * in)), b(static_cast<size_t>(in * out));
  const size_t count = threads.count();
  const double peak =
      speed(2 * t * n * m, count, [&] { backend->linear(*packed, {}, x.data(), rows, r.data()); });
  const FloatMatrix xs{x.data(), rows, in, in}, rs{r.data(), rows, out, out};
  const double of_gram = speed(t * n * n, count, [&] { add_gram(xs, w, gram, threads); });
  const double of_product =
      speed(2 * t * n * m, count, [&] { add_products(xs, rs, w, b, threads); });
  for (int64_t i = 0; i < in; ++i) gram[static_cast<size_t>(i * (in + 1))] += t;
  std::vector<double> factor;
  const double of_factor = speed(n * n * n / 3, count, [&] {
    factor = gram;
    cholesky(factor, in, threads);
  });
  const double of_solve =
      speed(2 * n * n * m, count, [&] { cholesky_solve(factor, in, b, out, threads); });
  fmt::print(
      "{:>6} x {:>5} -> {:>5}: product {:>4.0f} GFLOP/s | Gram {:>4.0f} ({:.0f} %) | X^T R "
      "{:>4.0f} "
      "({:.0f} %) | doubles: Cholesky {:>3.0f}, solve {:>3.0f}\n",
      rows, in, out, peak, of_gram, 100 * of_gram / peak, of_product, 100 * of_product / peak,
      of_factor, of_solve);
}

void whole(Threads& threads, const char* name, const ModelSpec& spec, size_t texts, size_t tokens) {
  const MemoryModel prior(spec, 1), a(spec, 2), b(spec, 3);
  const auto backend = make_cpu_backend(threads);
  const Transformer merged(prior, spec, *backend, threads), first(a, spec, *backend, threads),
      second(b, spec, *backend, threads);
  std::vector<std::vector<TokenSequence>> text(2);
  uint32_t id = 1;
  for (auto& sequences : text) {
    for (size_t s = 0; s < texts; ++s) {
      TokenSequence sequence;
      for (size_t t = 0; t < tokens; ++t)
        sequence.ids.push_back(static_cast<int32_t>((id = id * 1664525 + 1013904223) >> 8) % 1000);
      sequences.push_back(std::move(sequence));
    }
  }
  RefineOptions options;
  options.scratch = std::filesystem::temp_directory_path() / "lewis-refine-bench";
  RefineReport report;
  const double begin = cpu_seconds();
  const double seconds = seconds_of([&] {
    refine({merged, {&first, &second}}, text, options, report);
  });
  fmt::print(
      "{}: {} blocks, 2 x {} texts of {} tokens: {:.1f} s, {:.1f} s of processor time on {} "
      "threads, {:.2f} GiB at most so far\n",
      name, spec.layers, texts, tokens, seconds, cpu_seconds() - begin, threads.count(),
      peak_gib());
}

}  // namespace
}  // namespace lewis

int main() {
  using namespace lewis;
  Threads threads;
  const int64_t rows = bench_size(9600, 9600, 512);
  products(threads, rows, 576, 1536);
  products(threads, rows, 1536, 576);
  if (bench_size(true, false, false)) products(threads, 9600, 4096, 1024);
  const size_t texts = bench_size<size_t>(32, 4, 1);
  whole(threads, "135 M", llama_spec(576, 1536, 9, 3, 1000, bench_size(30, 30, 2)), texts, 150);
  if (bench_size(false, false, true)) return 0;
  whole(threads, "8 B", llama_spec(4096, 14336, 32, 8, 1000, bench_size(2, 1, 1)), texts, 150);
}
