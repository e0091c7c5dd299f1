// A whole TIES merge from disk to disk beside a plain copy of the same bytes: read base and two
// experts, write one model, flush. Cold where root may drop the page cache.
// BENCH_DIR: where (default: the temporary folder); BENCH_LAYERS: 37.7 M parameters each.
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include "base/random.h"
#include "bench.h"
#include "io/checkpoint.h"
#include "io/model_writer.h"
#include "merge/engine.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

std::vector<TensorInfo> tensors_of(int64_t layers) {
  std::vector<TensorInfo> tensors;
  for (int64_t l = 0; l < layers; ++l) {
    const std::string prefix = fmt::format("model.layers.{}.", l);
    tensors.push_back({prefix + "self_attn.q_proj.weight", DType::kBF16, {2048, 2048}});
    tensors.push_back({prefix + "mlp.up_proj.weight", DType::kBF16, {8192, 2048}});
    tensors.push_back({prefix + "mlp.down_proj.weight", DType::kBF16, {2048, 8192}});
  }
  return tensors;
}

// A base (expert 0) or an expert: the base plus small changes, as after fine-tuning.
void write_model(const fs::path& folder, int64_t layers, uint64_t expert) {
  ModelWriter writer(folder, tensors_of(layers), {.shard_bytes = 500'000'000});
  for (size_t t = 0; t < writer.tensors().size(); ++t) {
    std::vector<uint16_t> values(static_cast<size_t>(element_count(writer.tensors()[t].shape)));
    const TensorRandom base(0, 0, writer.tensors()[t].name),
        change(1, expert, writer.tensors()[t].name);
    std::vector<uint32_t> a(4096), b(4096);
    for (size_t at = 0; at < values.size(); at += a.size()) {
      base.fill(at, a);
      change.fill(at, b);
      for (size_t i = 0; i < a.size(); ++i) {
        const float weight = (static_cast<float>(a[i] >> 8) * 0x1p-24f - 0.5f) * 0.08f;
        const float delta = (static_cast<float>(b[i] >> 8) * 0x1p-24f - 0.5f) * 1e-3f;
        values[at + i] = float_to_bf16(expert == 0 ? weight : weight + delta);
      }
    }
    writer.write(t, 0, std::as_bytes(std::span(values)));
  }
  writer.add_file("config.json", "{}");
  writer.commit();
}

bool drop_page_cache() {
  ::sync();
  std::ofstream drop("/proc/sys/vm/drop_caches");
  drop << "3";
  drop.close();
  return static_cast<bool>(drop);
}

// Reads every shard of the models in pieces and writes as many bytes as the first has.
void copy_bytes(const std::vector<fs::path>& models, const fs::path& to, Threads& threads) {
  constexpr uint64_t kPiece = 8 << 20;
  struct Piece {
    const File* file;
    uint64_t at, size, target;
    bool write;
  };
  std::vector<File> files;
  for (const fs::path& model : models) {
    for (const fs::path& shard : Checkpoint::open(model).shard_paths())
      files.push_back(File::open_read(shard));
  }
  const File out = File::create(to);
  std::vector<Piece> pieces;
  uint64_t target = 0;
  for (size_t f = 0; f < files.size(); ++f) {
    const bool write = f < files.size() / models.size();
    for (uint64_t at = 0; at < files[f].size(); at += kPiece) {
      const uint64_t size = std::min(kPiece, files[f].size() - at);
      pieces.push_back({&files[f], at, size, target, write});
      target += write ? size : 0;
    }
  }
  threads.run(pieces.size(), [&](size_t i) {
    std::vector<std::byte> bytes(pieces[i].size);
    pieces[i].file->read_at(pieces[i].at, bytes);
    if (pieces[i].write) out.write_at(pieces[i].target, bytes);
  });
  out.sync();
}

double seconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The disk is shared: the best of three.
double best_seconds(bool cold, const std::function<void()>& work) {
  double best = INFINITY;
  for (int i = 0; i < bench_size(3, 3, 1); ++i) {
    if (cold) drop_page_cache();
    best = std::min(best, seconds_of(work));
  }
  return best;
}

void run(const fs::path& folder) {
  const char* wanted = std::getenv("BENCH_LAYERS");
  const int64_t layers = wanted ? std::atoll(wanted) : bench_size(16, 2, 1);
  const std::vector<fs::path> models = {folder / "base", folder / "a", folder / "b"};
  for (size_t m = 0; m < models.size(); ++m) write_model(models[m], layers, m);
  const Recipe recipe = parse_recipe(
      "merge_method: ties\nbase_model: base\nmodels:\n- {model: a, parameters: {weight: 1, "
      "density: 0.3}}\n"
      "- {model: b, parameters: {weight: 1, density: 0.3}}\n",
      folder / "recipe.yml");
  Threads threads(0);
  const MergeCost cost = preview_merge(recipe, {}, threads).cost;
  fmt::print(
      "ties, bf16, base and 2 experts of {:.2f} G parameters: reads {:.1f} GB, writes {:.1f} GB; "
      "best of 3\n\n",
      static_cast<double>(cost.parameters) / 1e9, static_cast<double>(cost.bytes_read) / 1e9,
      static_cast<double>(cost.bytes_written) / 1e9);
  fmt::print("{:<12}{:>12}{:>12}{:>22}\n", "page cache", "copy, s", "merge, s",
             "speed of the copy");
  for (const bool cold : {true, false}) {
    if (cold && !drop_page_cache()) continue;
    const double copy = best_seconds(cold, [&] { copy_bytes(models, folder / "copy", threads); });
    fs::remove(folder / "copy");
    const double merged = best_seconds(cold, [&] {
      fs::remove_all(folder / "out");
      merge(recipe, {.out = folder / "out"}, threads);
    });
    fs::remove_all(folder / "out");
    fmt::print("{:<12}{:>12.2f}{:>12.2f}{:>22.2f}\n", cold ? "cold" : "warm", copy, merged,
               copy / merged);
  }
}

}  // namespace
}  // namespace lewis

int main() {
  const char* wanted = std::getenv("BENCH_DIR");
  const auto root = wanted ? std::filesystem::path(wanted) : std::filesystem::temp_directory_path();
  const auto folder = root / ("lewis-bench-" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  try {
    lewis::run(folder);
  } catch (const std::exception& e) {
    fmt::print(stderr, "disk_bench: {}\n", e.what());
  }
  std::filesystem::remove_all(folder);
}
