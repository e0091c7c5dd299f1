// Generation against the memory that limits it: tokens a second at batches of 1, 2, 4 and 8, for
// models of SmolLM2's (135 M) and TinyLlama's (1.1 B) shapes with random bfloat16 weights, on all
// cores. Usage: generate_bench [135m|1.1b [LARGEST_BATCH]]. Both sides of the ratio are the best of
// a few runs, taken in turn.
#include <cstring>

#include "base/json.h"
#include "base/page_buffer.h"
#include "bench.h"
#include "memory_model.h"
#include "model/transformer.h"

namespace lewis {
namespace {

struct Shapes {
  std::string name;
  int64_t hidden, intermediate, layers, heads, kv_heads, vocab;
  bool tied;
};
const Shapes kModels[] = {{"135m", 576, 1536, 30, 9, 3, 49152, true},
                          {"1.1b", 2048, 5632, 22, 32, 4, 32000, false}};

ModelSpec spec_of(const Shapes& s) {
  const Json config = {{"model_type", "llama"},
                       {"hidden_size", s.hidden},
                       {"intermediate_size", s.intermediate},
                       {"num_hidden_layers", bench_size(s.layers, s.layers / 4, int64_t{1})},
                       {"num_attention_heads", s.heads},
                       {"num_key_value_heads", s.kv_heads},
                       {"vocab_size", s.vocab},
                       {"tie_word_embeddings", s.tied}};
  return read_model_spec(config, "bench");
}

// What reading costs: a buffer in huge pages, as the weights are, larger than a cache.
class Memory {
 public:
  explicit Memory(Threads& threads) : threads_(threads) {
    bytes_ = pages_.get(bench_size<size_t>(2560, 1024, 64) << 20);
    std::memset(bytes_.data(), 1, bytes_.size());
  }
  // Seconds of reading the next `bytes` of it, around and around.
  double read(double bytes) {
    typedef uint64_t Line __attribute__((vector_size(64)));
    constexpr size_t kPiece = 1 << 20, kLines = 8;
    std::vector<Line> sums(static_cast<size_t>(bytes) / kPiece);
    const double seconds = seconds_of([&] {
      threads_.run(sums.size(), [&](size_t i) {
        Line sum[kLines] = {};
        const std::byte* piece = bytes_.data() + (next_ + i) * kPiece % bytes_.size();
        for (size_t at = 0; at < kPiece; at += sizeof sum) {
          for (size_t l = 0; l < kLines; ++l) {
            Line line;
            std::memcpy(&line, piece + at + l * sizeof line, sizeof line);
            sum[l] += line;
          }
        }
        for (size_t l = 1; l < kLines; ++l) sum[0] += sum[l];
        sums[i] = sum[0];
      });
    });
    next_ += sums.size();
    return seconds;
  }

 private:
  Threads& threads_;
  PageBuffer pages_;
  std::span<std::byte> bytes_;
  size_t next_ = 0;  // piece
};

// Bytes of weights that a token needs: all but the embedding, of which it takes one row.
double weight_bytes(const MemoryModel& source, const ModelSpec& spec) {
  double bytes = 0;
  for (const TensorInfo& tensor : source.tensors()) {
    const bool embedding = tensor.name == "model.embed_tokens.weight";
    if (!embedding || spec.tied_head) bytes += static_cast<double>(byte_size(tensor));
  }
  return bytes;
}

struct Times {
  std::vector<double> steps, reads;  // seconds, sorted
};

// Steps that give every prompt of a batch one more token, and after each a read of as many bytes
// as the weights have: both see the same machine, and no step finds its weights in a cache.
Times measure(const Transformer& model, int64_t batch, double bytes, Memory& memory) {
  using Clock = std::chrono::steady_clock;
  const std::vector<std::vector<int32_t>> prompts(static_cast<size_t>(batch),
                                                  std::vector<int32_t>(16, 7));
  Times times;
  Clock::time_point last;
  GenerateOptions options;
  options.max_new_tokens = bench_size(48, 12, 3);
  options.batch = batch;
  options.stop = [&](size_t prompt, std::span<const int32_t> generated) {
    if (prompt != 0) return false;
    const double step = std::chrono::duration<double>(Clock::now() - last).count();
    if (generated.size() > 1) times.steps.push_back(step);  // the first one reads the prompt
    times.reads.push_back(memory.read(bytes));
    last = Clock::now();
    return false;
  };
  generate(model, prompts, options);
  std::sort(times.steps.begin(), times.steps.end());
  std::sort(times.reads.begin(), times.reads.end());
  return times;
}

void run(const Shapes& shapes, ComputeType type, int64_t largest_batch, Threads& threads,
         Memory& memory) {
  const ModelSpec spec = spec_of(shapes);
  const MemoryModel source(spec);
  const auto backend = make_cpu_backend(threads, type);
  const Transformer model(source, spec, *backend, threads);
  const double bytes = weight_bytes(source, spec);
  double first = 0;
  fmt::print(
      "\n{}{} in {}: {:.3f} GB of weights a step, {} threads\n\n{:<8}{:>12}{:>12}{:>18}{:>14}"
      "{:>16}{:>10}\n",
      shapes.name, bench_size("", ", a quarter of its layers,", ", one of its layers,"),
      compute_type_name(type), bytes / 1e9, threads.count(), "batch", "tokens/s", "median",
      "weights GB/s", "memory GB/s", "of the memory", "gain");
  for (int64_t batch = 1; batch <= largest_batch; batch *= 2) {
    const Times times = measure(model, batch, bytes, memory);
    const double step = times.steps.front(), read = times.reads.front();
    const double rate = static_cast<double>(batch) / step;
    if (batch == 1) first = rate;
    fmt::print("{:<8}{:>12.1f}{:>12.1f}{:>18.1f}{:>14.1f}{:>16.2f}{:>10.2f}\n", batch, rate,
               static_cast<double>(batch) / times.steps[times.steps.size() / 2], bytes / step / 1e9,
               bytes / read / 1e9, read / step, rate / first);
  }
}

}  // namespace
}  // namespace lewis

int main(int count, char** arguments) {
  const std::string only = count > 1 ? arguments[1] : "";
  const int64_t largest_batch = count > 2 ? std::atoi(arguments[2]) : lewis::bench_size(8, 8, 2);
  lewis::Threads threads;
  lewis::Memory memory(threads);
  for (const auto& model : lewis::kModels) {
    if (!only.empty() && only != model.name) continue;
    for (const auto type : {lewis::ComputeType::kF32, lewis::ComputeType::kBF16})
      lewis::run(model, type, largest_batch, threads, memory);
  }
}
