// Hybrids of attention and recurrences: calibration of some of their blocks against the products of
// their linear layers, and the recurrences in chunks against row by row.
// bench/compare_transformers.py --size qwen3_5_0.8b or granite4_350m has the whole models beside
// transformers.
#include "base/json.h"
#include "bench.h"
#include "calibrate/calibrate.h"
#include "compute/cpu/delta_rule.h"
#include "compute/cpu/state_space.h"
#include "model/transformer.h"
#include "timed_backend.h"

namespace lewis {
namespace {

struct Hybrid {
  const char* name;
  Json config;
};

// Four blocks with the shapes of Qwen 3.5 0.8B (three of the gated delta rule, one of attention)
// and of Granite 4.0 350M (three of Mamba 2), and small vocabularies: calibration needs no head.
std::vector<Hybrid> hybrids() {
  return {{"qwen3_5",
           {{"model_type", "qwen3_5_text"},
            {"hidden_size", 1024},
            {"intermediate_size", 3584},
            {"num_hidden_layers", 4},
            {"num_attention_heads", 8},
            {"num_key_value_heads", 2},
            {"head_dim", 256},
            {"linear_num_key_heads", 16},
            {"linear_num_value_heads", 16},
            {"linear_key_head_dim", 128},
            {"linear_value_head_dim", 128},
            {"linear_conv_kernel_dim", 4},
            {"layer_types",
             {"linear_attention", "linear_attention", "linear_attention", "full_attention"}},
            {"rope_parameters",
             {{"rope_type", "default"}, {"rope_theta", 1e7}, {"partial_rotary_factor", 0.25}}},
            {"hidden_act", "silu"},
            {"max_position_embeddings", 4096},
            {"rms_norm_eps", 1e-6},
            {"tie_word_embeddings", true},
            {"vocab_size", 1000}}},
          {"granite4",
           {{"model_type", "granitemoehybrid"},
            {"hidden_size", 768},
            {"intermediate_size", 2048},
            {"shared_intermediate_size", 2048},
            {"num_local_experts", 0},
            {"num_experts_per_tok", 0},
            {"num_hidden_layers", 4},
            {"num_attention_heads", 12},
            {"num_key_value_heads", 4},
            {"layer_types", {"mamba", "mamba", "mamba", "attention"}},
            {"mamba_n_heads", 48},
            {"mamba_n_groups", 1},
            {"mamba_d_state", 128},
            {"mamba_d_head", 32},
            {"mamba_d_conv", 4},
            {"mamba_expand", 2},
            {"mamba_conv_bias", true},
            {"mamba_proj_bias", false},
            {"position_embedding_type", "nope"},
            {"hidden_act", "silu"},
            {"max_position_embeddings", 4096},
            {"rms_norm_eps", 1e-5},
            {"attention_multiplier", 0.125},
            {"embedding_multiplier", 1.0},
            {"residual_multiplier", 1.0},
            {"logits_scaling", 1.0},
            {"tie_word_embeddings", true},
            {"vocab_size", 1000}}}};
}

void calibration(const Hybrid& hybrid, size_t thread_count) {
  const ModelSpec spec = read_model_spec(hybrid.config, "bench");
  const MemoryModel memory(spec);
  const size_t count = bench_size<size_t>(8, 4, 1);
  const std::vector<std::vector<int32_t>> sequences(count, std::vector<int32_t>(512, 7));
  const auto tokens = static_cast<double>(count * 512);
  const int64_t rows = bench_size(2048, 2048, 512);
  Threads threads(thread_count);
  const auto backend = make_cpu_backend(threads);
  TimedBackend timed(*backend);
  const Transformer model(memory, spec, timed, threads);
  double bare = 0;  // of the linear layers
  for (int64_t layer = 0; layer < spec.layers; ++layer)
    bare += bare_seconds(*backend, spec, layer, rows) * tokens / static_cast<double>(rows);
  double total = 1e30, linear = 0, recurrence = 0;
  for (int i = 0; i < bench_size(3, 3, 1); ++i) {
    timed.linear_seconds = timed.recurrence_seconds = 0;
    const double seconds = seconds_of([&] { calibrate(model, sequences, {}); });
    if (seconds >= total) continue;
    total = seconds;
    linear = timed.linear_seconds;
    recurrence = timed.recurrence_seconds;
  }
  fmt::print("{:<12}{:>8}{:>14.0f}{:>14.2f}{:>16.2f}{:>14.2f}\n", hybrid.name, thread_count,
             tokens / total, linear / total, recurrence / total, bare / total);
}

// Microseconds of one row of one head, in chunks and row by row, on one thread.
void delta_rows() {
  constexpr int64_t kRows = 512, kDim = 128;
  const std::vector<float> x(kRows * kDim, 0.088f), gates(kRows, -0.1f), shares(kRows, 0.5f);
  std::vector<float> state(kDim * kDim), out(kRows * kDim);
  const DeltaHead head = {.rows = kRows,
                          .key_dim = kDim,
                          .value_dim = kDim,
                          .q = x.data(),
                          .k = x.data(),
                          .v = x.data(),
                          .key_stride = kDim,
                          .value_stride = kDim,
                          .decay = gates.data(),
                          .beta = shares.data(),
                          .gate_stride = 1,
                          .state = state.data(),
                          .out = out.data(),
                          .out_stride = kDim};
  const double chunks = least_seconds([&] { delta_rule(head); }, 20);
  const double by_rows = least_seconds([&] { delta_rule_by_rows(head); }, 20);
  fmt::print("{:<32}{:>12.2f}{:>14.2f}\n", "delta rule, 128 x 128", chunks / kRows * 1e6,
             by_rows / kRows * 1e6);
}

void state_rows() {
  constexpr int64_t kRows = 512, kHeads = 8, kDim = 32, kState = 128;
  const std::vector<float> x(kRows * kState * kHeads, 0.1f), steps(kRows * kHeads, 0.1f);
  const std::vector<float> rates(kHeads, -1.0f), direct(kHeads, 1.0f);
  std::vector<float> state(kHeads * kDim * kState), out(kRows * kHeads * kDim);
  const StateHeads heads = {.rows = kRows,
                            .heads = kHeads,
                            .head_dim = kDim,
                            .state_dim = kState,
                            .x = x.data(),
                            .b = x.data(),
                            .c = x.data(),
                            .stride = kHeads * kDim,
                            .step = steps.data(),
                            .step_stride = kHeads,
                            .a = rates.data(),
                            .d = direct.data(),
                            .state = state.data(),
                            .out = out.data(),
                            .out_stride = kHeads * kDim};
  const double chunks = least_seconds([&] { scan_states(heads); }, 20) / kHeads;
  const double by_rows = least_seconds([&] { scan_states_by_rows(heads); }, 20) / kHeads;
  fmt::print("{:<32}{:>12.2f}{:>14.2f}\n", "Mamba 2, 128 x 32", chunks / kRows * 1e6,
             by_rows / kRows * 1e6);
}

}  // namespace
}  // namespace lewis

int main() {
  using namespace lewis;
  fmt::print(
      "calibration of 4 blocks in f32; tokens/s; shares of the time in linear layers and in "
      "recurrences; of GEMM: the time of the linear layers alone, as a share\n\n{:<12}{:>8}{:>14}"
      "{:>14}{:>16}{:>14}\n",
      "model", "threads", "tokens/s", "in GEMM", "in recurrences", "of GEMM");
  for (const Hybrid& hybrid : hybrids()) {
    for (const size_t count : {1, 2}) calibration(hybrid, count);
  }
  fmt::print("\nrecurrences, one head, one thread: us per token\n\n{:<32}{:>12}{:>14}\n", "state",
             "in chunks", "row by row");
  delta_rows();
  state_rows();
}
