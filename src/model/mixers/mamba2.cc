// Mamba 2: one projection gives a gate, what passes a short convolution (x, B, C), and the step of
// each head; then the selective state space (compute/recurrence.h), the gate, and a norm of groups.
#include "model/mixers/mamba2.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "model/mixers/recurrent.h"

namespace lewis {
namespace {

constexpr int64_t kHeadsAtOnce = 8;  // more share the products of B and C, fewer keep threads busy
constexpr int kSplit = 1;            // MixStep::stage: takes the projection apart

class Mamba2 final : public Mixer {
 public:
  explicit Mamba2(const Mamba2Settings& settings) : s_(settings) {}

  Value describe(BlockBuilder& block, Value x) const override {
    const auto own = [&](std::string_view name, Shape shape) {
      block.own_tensor(fmt::format("{}{}", s_.place, name), std::move(shape));
    };
    own("conv1d.weight", {channels(), 1, s_.kernel});
    own("dt_bias", {s_.heads});
    own("A_log", {s_.heads});
    own("D", {s_.heads});
    if (s_.norm != MambaNorm::kNone) own("norm.weight", {inner()});
    if (s_.conv_bias) own("conv1d.bias", {channels()});
    const std::array widths = {inner(), channels(), s_.heads};
    const Value all =
        block.linear(s_.place, {"in_proj", inner() + channels() + s_.heads}, x, s_.in_bias);
    const Value mixed = block.mix(block.mix({all}, widths, kSplit), std::array{inner()})[0];
    return block.linear(s_.place, {"out_proj", block.spec().hidden}, mixed, s_.out_bias);
  }

  void mix(const MixCall& call) const override { call.stage == kSplit ? split(call) : scan(call); }

  std::unique_ptr<MixerState> new_state(const ModelSpec&, int64_t) const override {
    return std::make_unique<RecurrentState>(conv_values(), state_values());
  }

  bool equals(const Mixer& other) const override {
    const auto* mamba = dynamic_cast<const Mamba2*>(&other);
    return mamba && mamba->s_ == s_;
  }

 private:
  enum Own : size_t { kConv, kDtBias, kALog, kD, kNorm };

  int64_t inner() const { return s_.heads * s_.head_dim; }
  int64_t channels() const { return inner() + 2 * s_.groups * s_.state_dim; }  // x, B, C
  int64_t conv_values() const { return (s_.kernel - 1) * channels(); }
  int64_t state_values() const { return inner() * s_.state_dim; }

  // in: gate, x, B, C, steps. out: gate; x, B, C; steps.
  void split(const MixCall& call) const {
    const auto& m = s_.multipliers;
    const int64_t n = inner(), group = s_.groups * s_.state_dim;
    call.threads.run(static_cast<size_t>(call.rows), [&](size_t row) {
      const auto r = static_cast<int64_t>(row);
      const float* from = call.in[0] + r * (n + channels() + s_.heads);
      const auto take = [&](float* to, int64_t count, float multiplier) {
        for (int64_t i = 0; i < count; ++i) to[i] = from[i] * multiplier;
        from += count;
      };
      float* conv = call.out[1] + r * channels();
      take(call.out[0] + r * n, n, m[0]);
      take(conv, n, m[1]);
      take(conv + n, group, m[2]);
      take(conv + n + group, group, m[3]);
      take(call.out[2] + r * s_.heads, s_.heads, m[4]);
    });
  }

  void scan(const MixCall& call) const {
    float *gate = call.in[0], *x = call.in[1], *steps = call.in[2], *out = call.out[0];
    CallStates states(call, conv_values(), state_values());
    std::span<const float> bias;
    if (s_.conv_bias) bias = call.own[s_.norm == MambaNorm::kNone ? kNorm : kNorm + 1];
    run_short_conv({channels(), s_.kernel, call.own[kConv], bias}, call, states, x);
    call.backend.activate(s_.always_silu ? Activation::kSilu : call.spec.activation, x, nullptr,
                          call.rows * channels());
    for (int64_t i = 0; i < call.rows * s_.heads; ++i) {
      const float step = softplus(steps[i] + call.own[kDtBias][static_cast<size_t>(i % s_.heads)]);
      steps[i] = std::clamp(step, s_.least_step, s_.largest_step);
    }
    std::vector<float> rates(static_cast<size_t>(s_.heads));
    for (size_t h = 0; h < rates.size(); ++h) rates[h] = -std::exp(call.own[kALog][h]);
    call.backend.scan_states(heads_of(call, states, rates));
    states.finish(call);
    if (s_.norm == MambaNorm::kBeforeGate) norm_groups(call, out);
    call.backend.activate(Activation::kSilu, gate, out, call.rows * inner());
    std::copy_n(gate, call.rows * inner(), out);
    if (s_.norm == MambaNorm::kAfterGate) norm_groups(call, out);
  }

  // All heads of every sequence, a few that share B and C at a time. rates: A of each head.
  std::vector<StateHeads> heads_of(const MixCall& call, const CallStates& states,
                                   std::span<const float> rates) const {
    const int64_t of_group = s_.heads / s_.groups;
    std::vector<StateHeads> heads;
    for (size_t i = 0; i < call.sequences.size(); ++i) {
      const MixedRows& s = call.sequences[i];
      const float* row = call.in[1] + s.first_row * channels();
      for (int64_t h = 0, count = 0; h < s_.heads; h += count) {
        count = std::min(kHeadsAtOnce, of_group - h % of_group);
        const float* b = row + inner() + h / of_group * s_.state_dim;
        heads.push_back({.rows = s.rows,
                         .heads = count,
                         .head_dim = s_.head_dim,
                         .state_dim = s_.state_dim,
                         .x = row + h * s_.head_dim,
                         .b = b,
                         .c = b + s_.groups * s_.state_dim,
                         .stride = channels(),
                         .step = call.in[2] + s.first_row * s_.heads + h,
                         .step_stride = s_.heads,
                         .a = rates.data() + h,
                         .d = call.own[kD].data() + h,
                         .state = states[i].values.data() + h * s_.head_dim * s_.state_dim,
                         .out = call.out[0] + s.first_row * inner() + h * s_.head_dim,
                         .out_stride = inner()});
      }
    }
    return heads;
  }

  void norm_groups(const MixCall& call, float* x) const {
    const int64_t size = inner() / s_.groups;
    const std::vector<float>& weight = call.own[kNorm];
    call.threads.run(static_cast<size_t>(call.rows * s_.groups), [&](size_t piece) {
      float* group = x + static_cast<int64_t>(piece) * size;
      const float* w = weight.data() + static_cast<int64_t>(piece) % s_.groups * size;
      float squares = 0;
      for (int64_t i = 0; i < size; ++i) squares += group[i] * group[i];
      const float factor =
          1 / std::sqrt(squares / static_cast<float>(size) + call.spec.norm.epsilon);
      for (int64_t i = 0; i < size; ++i) group[i] *= factor * w[i];
    });
  }

  Mamba2Settings s_;
};

// The upper limit; infinity is an object (base/config_json.h), or a word of old files.
std::optional<float> limit_of(const Json& value) {
  if (value.is_number()) return value.get<float>();
  const Json word = value.is_object() ? value.value("__float__", Json()) : value;
  if (word != "Infinity" && word != "inf") return std::nullopt;
  return std::numeric_limits<float>::infinity();
}

void read_limits(const ConfigReader& config, Mamba2Settings& s) {
  const Json* limits = config.find("time_step_limit");
  if (!limits) return;
  const bool pair = limits->is_array() && limits->size() == 2 && limits->at(0).is_number();
  const auto largest = pair ? limit_of(limits->at(1)) : std::nullopt;
  if (!largest) throw config.refuse("time_step_limit", "a list of two numbers");
  s.least_step = limits->at(0).get<float>();
  s.largest_step = *largest;
}

}  // namespace

MixerPtr make_mamba2(const ConfigReader& config, const Mamba2Settings& settings) {
  if (settings.heads % settings.groups != 0) {
    throw config.refuse(settings.groups_key,
                        fmt::format("a divisor of the {} heads of Mamba", settings.heads));
  }
  return std::make_shared<Mamba2>(settings);
}

// The keys that Granite 4 and Falcon-H1 share.
Mamba2Settings read_mamba2(const ConfigReader& config, int64_t inner) {
  Mamba2Settings s;
  s.heads = config.parts("mamba_n_heads");
  s.groups = config.parts("mamba_n_groups");
  s.state_dim = config.parts("mamba_d_state");
  s.kernel = config.parts("mamba_d_conv");
  s.conv_bias = config.boolean("mamba_conv_bias", true);
  s.in_bias = s.out_bias = config.boolean("mamba_proj_bias", false);
  const Json* dim = config.find("mamba_d_head");
  const bool given = dim && *dim != "auto";
  s.head_dim = given ? config.parts("mamba_d_head") : std::max<int64_t>(1, inner / s.heads);
  if (s.head_dim * s.heads != inner) {
    throw config.refuse(given ? "mamba_d_head" : "mamba_n_heads",
                        fmt::format("{} heads that make up the inner width {}", s.heads, inner));
  }
  read_limits(config, s);
  return s;
}

namespace {

constexpr std::array<GgmlName, 4> kNames = {{
    {"mamba.in_proj", "ssm_in", ""},
    {"mamba.out_proj", "ssm_out", ""},
    {"mixer.in_proj", "ssm_in", ""},
    {"mixer.out_proj", "ssm_out", ""},
}};

MixerPtr make_granite(const ConfigReader& config) {
  Mamba2Settings s = read_mamba2(config, config.parts("mamba_expand") * config.size("hidden_size"));
  s.norm = MambaNorm::kAfterGate;
  return make_mamba2(config, s);
}

// transformers does not read time_step_limit here, but time_step_min.
MixerPtr make_nemotron(const ConfigReader& config) {
  Mamba2Settings s;
  s.place = "mixer.";
  s.groups_key = "n_groups";
  s.heads = config.parts("mamba_num_heads");
  s.head_dim = config.parts("mamba_head_dim");
  s.groups = config.parts("n_groups");
  s.state_dim = config.parts("ssm_state_size");
  s.kernel = config.parts("conv_kernel");
  s.conv_bias = config.boolean("use_conv_bias", true);
  s.in_bias = s.out_bias = config.boolean("use_bias", false);
  s.norm = MambaNorm::kAfterGate;
  s.least_step = static_cast<float>(config.number("time_step_min"));
  s.always_silu = true;
  if (config.text("mamba_hidden_act", "silu") != "silu")
    throw config.refuse("mamba_hidden_act", "silu");
  return make_mamba2(config, s);
}

}  // namespace

extern const MixerRow kMamba2, kNemotronMamba2;
const MixerRow kMamba2 = {"mamba2", make_granite, kNames};
const MixerRow kNemotronMamba2 = {"mamba2_nemotron", make_nemotron, {}};

}  // namespace lewis
