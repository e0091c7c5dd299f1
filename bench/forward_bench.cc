// Calibration and evaluation against the matrix multiplication that limits them, and generation.
#include <cstring>
#include <filesystem>
#include <random>

#include "base/error.h"
#include "bench.h"
#include "calibrate/calibrate.h"
#include "compute/backend.h"
#include "compute/cpu/bf16_kernels.h"
#include "compute/cpu/matmul.h"
#include "eval/tasks/token_loss.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "memory_model.h"
#include "model/transformer.h"
#include "timed_backend.h"

namespace lewis {
namespace {

// SmolLM2 135M's and TinyLlama 1.1B's blocks, a few of them, and what share of the model they are.
struct BenchModel {
  const char* name;
  ModelSpec spec;
  double layers;  // of the whole model
};

std::vector<BenchModel> bench_models() {
  std::vector<BenchModel> models = {
      {"135M", llama_spec(576, 1536, 9, 3, bench_size(49152, 49152, 1000), bench_size(4, 4, 1)),
       30}};
  if (bench_size(true, false, false))
    models.push_back({"1.1B", llama_spec(2048, 5632, 32, 4, 32000, 2), 22});
  return models;
}

// A tile of queries times the keys that they see, as attention.cc cuts them.
struct Tile {
  int64_t rows, seen;
};

std::vector<Tile> attention_tiles(const ModelSpec& spec, int64_t tokens, int64_t rows) {
  const int64_t group = spec.heads / spec.kv_heads, queries = rows / group;
  std::vector<Tile> tiles;
  for (int64_t first = 0; first < tokens; first += queries) {
    const int64_t count = std::min(queries, tokens - first);
    tiles.insert(tiles.end(), static_cast<size_t>(spec.kv_heads), {count * group, first + count});
  }
  return tiles;
}

// Seconds of attention's two products of one block for one sequence of `tokens`, each tile alone:
// the queries that share a key head times the keys that they see, and the same back.
double bare_attention_seconds(const ModelSpec& spec, int64_t tokens, Threads& threads) {
  const int64_t width = spec.head_dim, stride = spec.kv_heads * width;
  const std::vector<float> keys(static_cast<size_t>(tokens * stride), 0.5f);
  const std::vector<Tile> tiles = attention_tiles(spec, tokens, 128);
  return least_seconds([&] {
    threads.run(tiles.size(), [&](size_t i) {
      const auto [rows, seen] = tiles[i];
      const std::vector<float> q(static_cast<size_t>(rows * width), 0.5f);
      std::vector<float> scores(static_cast<size_t>(rows * seen)), out(q.size());
      gemm({.m = rows,
            .n = seen,
            .k = width,
            .lda = width,
            .ldb = stride,
            .ldc = seen,
            .transpose_b = true},
           q.data(), keys.data(), scores.data());
      gemm({.m = rows, .n = width, .k = seen, .lda = seen, .ldb = stride, .ldc = width},
           scores.data(), keys.data(), out.data());
    });
  });
}

// The same in bfloat16: keys in blocks of 512 or what is left of them in steps of 32.
double bare_rounded_attention_seconds(const ModelSpec& spec, int64_t tokens, Threads& threads) {
  constexpr int64_t kRows = 64, kKeys = 512, kStep = 32;
  const int64_t width = spec.head_dim;
  const Bf16Kernels& kernels = best_bf16_kernels();
  const std::vector<uint16_t> rows(static_cast<size_t>(kRows * std::max(kKeys, width)), 0x3f00);
  const std::vector<uint32_t> panels(static_cast<size_t>(kKeys * width / 2), 0x3f003f00);
  const std::vector<Tile> tiles = attention_tiles(spec, tokens, kRows);
  return least_seconds([&] {
    threads.run(tiles.size(), [&](size_t i) {
      thread_local std::vector<float> scores(kRows * kKeys);
      thread_local std::vector<float> out(static_cast<size_t>(kRows * width));
      const int64_t m = round_up(tiles[i].rows, 16);
      for (int64_t key = 0; key < tiles[i].seen; key += kKeys) {
        const int64_t n = round_up(std::min(kKeys, tiles[i].seen - key), kStep);
        kernels.multiply({m, n, width, rows.data(), width, panels.data(), width / 2 * 16,
                          scores.data(), n, false});
        kernels.multiply({m, width, n, rows.data(), kKeys, panels.data(), kKeys / 2 * 16,
                          out.data(), width, true});
      }
    });
  });
}

void forward(const BenchModel& bench, ComputeType type, size_t thread_count) {
  const MemoryModel memory(bench.spec);
  const size_t count = bench_size<size_t>(15, 15, 2);
  const std::vector<std::vector<int32_t>> sequences(count, std::vector<int32_t>(512, 7));
  const auto tokens = static_cast<double>(count * 512);
  const int64_t group = bench_size(2048, 2048, 128);
  Threads threads(thread_count);
  const auto backend = make_cpu_backend(threads, type);
  TimedBackend timed(*backend);
  const Transformer model(memory, bench.spec, timed, threads);
  const auto layers_here = static_cast<double>(bench.spec.layers);
  const double bare = bare_seconds(*backend, bench.spec, 0, group) * tokens /
                      static_cast<double>(group) * layers_here;
  const auto bare_attention =
      type == ComputeType::kF32 ? bare_attention_seconds : bare_rounded_attention_seconds;
  const double attention = bare_attention(bench.spec, 512, threads) * tokens / 512 * layers_here;
  double total = 1e30, inside = 0;
  for (int i = 0; i < bench_size(3, 3, 1); ++i) {
    timed.linear_seconds = 0;
    const double seconds = seconds_of([&] { calibrate(model, sequences, {}); });
    if (seconds >= total) continue;
    total = seconds;
    inside = timed.linear_seconds;
  }
  const double scale = bench.layers / layers_here;
  std::vector<ScoredSequence> scored;
  for (const auto& ids : sequences) scored.push_back({ids, 256});  // half of the tokens
  const TokenBatch batch = make_batch(sequences);
  const double once = least_seconds([&] {  // what does not grow with the layers
    std::vector<float> hidden(batch.ids.size() * static_cast<size_t>(bench.spec.hidden));
    model.embed_once(batch.ids, hidden);
  });
  total = (total - once) * scale + once;
  const double layers = least_seconds([&] { run_layers(model, batch, {}); }, 2);
  const double whole = least_seconds([&] { token_losses(model, scored, {}); }, 2);
  const double evaluation = layers * scale + std::max(0.0, whole - layers);
  fmt::print("{:<8}{:<8}{:>8}{:>14.0f}{:>14.0f}{:>14.0f}{:>14.2f}{:>14.2f}{:>14.2f}\n", bench.name,
             compute_type_name(type), thread_count,
             block_flops(bench.spec, 0) * tokens * layers_here / bare / 1e9, tokens / total,
             tokens / evaluation, inside * scale / total, bare / inside,
             (bare + attention) * scale / total);
}

void forward() {
  fmt::print(
      "{} sequences of 512 tokens; tokens/s of the whole model, from a few of its blocks; GEMM: "
      "its linear layers alone; of GEMM: these and attention's products\n\n",
      bench_size(15, 15, 2));
  fmt::print("{:<8}{:<8}{:>8}{:>14}{:>14}{:>14}{:>14}{:>14}{:>14}\n", "model", "type", "threads",
             "GEMM GFLOP/s", "calibration", "evaluation", "in GEMM", "at its speed", "of GEMM");
  for (const BenchModel& model : bench_models()) {
    for (const ComputeType type : {ComputeType::kF32, ComputeType::kBF16}) {
      for (const size_t count : {1, 2}) forward(model, type, count);
    }
  }
  fmt::print("\n--compute auto takes {} here\n", compute_type_name(faster_compute_type()));
}

void generation() {
  const std::filesystem::path folder = "demo/models/base";
  const Checkpoint checkpoint = Checkpoint::open(folder);
  const size_t count_of_prompts = bench_size<size_t>(64, 64, 4);
  fmt::print(
      "\ngeneration, demo/models/base (1.7 M parameters), {} prompts of 60 tokens, 100 new tokens "
      "each\n\n{:<12}{:>12}\n",
      count_of_prompts, "threads", "tokens/s");
  for (const size_t count : {1, 2}) {
    Threads threads(count);
    const auto backend = make_cpu_backend(threads);
    const Transformer model(checkpoint, read_model_spec(checkpoint.config(), folder.string()),
                            *backend, threads);
    const std::vector<std::vector<int32_t>> prompts(count_of_prompts, std::vector<int32_t>(60, 11));
    const double seconds =
        median_seconds([&] { generate(model, prompts, {.max_new_tokens = 100}); }, 3);
    fmt::print("{:<12}{:>12.0f}\n", count, static_cast<double>(count_of_prompts * 100) / seconds);
  }
}

}  // namespace
}  // namespace lewis

int main() {
  lewis::forward();
  lewis::generation();
}
