// The forward pass through one block: goes through its steps.
#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "model/block_weights.h"
#include "model/sequence_state.h"
#include "model/transformer.h"
#include "model/xielu.h"

namespace lewis {
namespace {

void check_rows(std::span<const SequenceRows> sequences, int64_t rows, const ModelSpec& spec,
                const std::string& label) {
  int64_t row = 0;
  for (const SequenceRows& s : sequences) {
    if (s.first_row != row || s.rows < 0 || (!s.state && s.first_position != 0)) {
      throw failed_error("run_block: the sequences do not lie one after the other");
    }
    if (s.first_position + s.rows > spec.max_positions) {
      throw input_error(
          "{}: a sequence of {} tokens, but the model has {} positions (max_position_embeddings)",
          label, s.first_position + s.rows, spec.max_positions);
    }
    row += s.rows;
  }
  if (row != rows)
    throw failed_error("run_block: {} rows of hidden states, {} in the sequences", rows, row);
}

// The activation of gpt-oss: gate = g sigmoid(alpha g) (u + 1), with g at most `limit` and u
// between -limit and limit.
void clamped_glu(float limit, float alpha, float* gate, const float* up, int64_t n,
                 Threads& threads) {
  constexpr int64_t kPiece = 1 << 14;
  threads.run(static_cast<size_t>((n + kPiece - 1) / kPiece), [&](size_t piece) {
    const int64_t begin = static_cast<int64_t>(piece) * kPiece;
    for (int64_t i = begin; i < std::min(n, begin + kPiece); ++i) {
      const float g = std::min(gate[i], limit), u = std::clamp(up[i], -limit, limit);
      gate[i] = g / (1 + std::exp(-alpha * g)) * (u + 1);
    }
  });
}

}  // namespace

// Answers each kind of step on working memory of the model, which later steps take over.
class Transformer::ForwardPass {
 public:
  ForwardPass(const Transformer& model, const BlockWeights& block,
              std::span<const SequenceRows> sequences, int64_t rows, float* hidden,
              const TapFn& tap)
      : model_(model),
        block_(block),
        sequences_(sequences),
        rows_(rows),
        tap_(tap),
        values_(block.steps.values.size()) {
    values_[kStream] = hidden;
  }

  void run() {
    for (const Step& step : block_.steps.steps) {
      taps_ = step.taps && tap_;
      std::visit([this](const auto& does) { answer(does); }, step.does);
    }
  }

 private:
  float* at(Value value) const { return values_[static_cast<size_t>(value)]; }
  float* make(Value value) {
    return values_[static_cast<size_t>(value)] = model_.working_memory(block_, value, rows_);
  }
  void tap(Value value) const {
    if (taps_) tap_({value, {at(value), rows_, block_.steps.width(value)}, kDense, {}});
  }

  void answer(const NormStep& step) {
    if (step.norm == kNoIndex) {
      values_[static_cast<size_t>(step.out)] = at(step.in);
      return;
    }
    const float* x = at(step.in);
    model_.norm(block_, step, x, rows_, step.out == step.in ? at(step.in) : make(step.out));
  }

  void answer(const LinearsStep& step) {
    tap(step.in);
    std::vector<LinearCall> calls;
    for (const LinearOutput& output : step.outputs) {
      const Linear& linear = block_.linear(output.linear);
      calls.push_back({*linear.weight, linear.bias, make(output.out)});
    }
    model_.backend_.linear(calls, at(step.in), rows_);
  }

  void answer(const MixStep& step) {
    std::vector<float*> in, out;
    for (const Value value : step.in) in.push_back(at(value));
    for (const Value value : step.out) out.push_back(make(value));
    model_.mix(block_, step, sequences_, rows_, in, out);
  }

  void answer(const GatedStep& step) {
    tap(step.in);
    const Linear* gate = step.gate == kNoIndex ? nullptr : &block_.linear(step.gate);
    model_.run_gated(block_.steps.layer, gate, block_.linear(step.up), at(step.in), rows_,
                     make(step.out));
  }

  void answer(const ExpertsStep& step) {
    tap(step.in);
    model_.experts_output(block_, step, rows_, at(step.in), at(step.routed_in), make(step.out),
                          tap_);
  }

  void answer(const PerLayerStep& step) {
    model_.apply_per_layer_input(block_, sequences_, rows_, at(step.gate));
  }

  void answer(const ScaleStep& step) {
    model_.scale_stream(block_, step, at(kStream), rows_ * block_.steps.width(kStream));
  }

  void answer(const SumStep& step) {
    model_.backend_.add(at(step.into), at(step.from), rows_ * block_.steps.width(step.into));
  }

  void answer(const AddStep& step) {
    model_.add_to_stream(at(step.in), step.multiplier, rows_, at(kStream));
  }

  const Transformer& model_;
  const BlockWeights& block_;
  std::span<const SequenceRows> sequences_;
  int64_t rows_;
  const TapFn& tap_;
  bool taps_ = false;
  std::vector<float*> values_;  // [rows, width] each
};

void Transformer::run_block(const BlockWeights& block, std::span<const SequenceRows> sequences,
                            std::span<float> hidden, const TapFn& tap) const {
  const int64_t rows = rows_of(hidden);
  check_rows(sequences, rows, spec_, source_.label());
  ForwardPass(*this, block, sequences, rows, hidden.data(), tap).run();
}

// The piece of memory that holds a value of the block, [rows, width], of arbitrary content.
float* Transformer::working_memory(const BlockWeights& block, Value value, int64_t rows) const {
  const BlockValue& v = block.steps.values.at(static_cast<size_t>(value));
  auto& slots = workspace_->slots;
  if (slots.size() < block.steps.slots.size()) slots.resize(block.steps.slots.size());
  return slots.at(static_cast<size_t>(v.slot)).get(rows * v.width);
}

void Transformer::run_norm(const Norm& norm, int64_t columns, const float* x, int64_t rows,
                           float* y) const {
  if (norm.spec.kind == NormKind::kRms) {
    backend_.rms_norm(x, rows, columns, norm.weight, norm.spec.epsilon, y);
  } else {
    backend_.layer_norm(x, rows, columns, norm.weight, norm.bias, norm.spec.epsilon, y);
  }
}

void Transformer::norm(const BlockWeights& block, const NormStep& step, const float* x,
                       int64_t rows, float* y) const {
  const int64_t columns = block.steps.width(step.in);
  if (step.norm != kNoIndex) {
    run_norm(block.norms[static_cast<size_t>(step.norm)], columns, x, rows, y);
  } else if (y != x) {
    std::copy_n(x, rows * columns, y);
  }
}

// The state that the layer's mixer reads and continues: the layer's own, or that of the layer which
// lends it keys and values. Without states a lender has a new one, which the sequence keeps.
MixerState* Transformer::state_of(const SequenceRows& s, int64_t layer) const {
  const LayerSpec& l = spec_.layer[static_cast<size_t>(layer)];
  const int64_t source = l.kv_source == kNoSource ? layer : l.kv_source;
  if (s.state) return &s.state->layer(source);
  if (!l.lends_kv && l.kv_source == kNoSource) return nullptr;
  if (!s.side) {
    throw failed_error("{}: layer {} shares keys and values, which this run does not keep",
                       source_.label(), layer);
  }
  std::unique_ptr<MixerState>& lent = s.side->lent[{this, source}];
  if (l.lends_kv) lent = l.mixer->new_state(spec_, layer);
  if (!lent) throw failed_error("{}: layer {} ran before layer {}", source_.label(), layer, source);
  return lent.get();
}

void Transformer::mix(const BlockWeights& block, const MixStep& step,
                      std::span<const SequenceRows> sequences, int64_t rows,
                      std::span<float* const> in, std::span<float* const> out) const {
  const int64_t layer = block.steps.layer;
  std::vector<MixedRows> mixed;
  for (const SequenceRows& s : sequences) {
    // What a router reads concerns no other token, and must not begin the lent keys anew.
    MixerState* state = step.stage == kRouterInput ? nullptr : state_of(s, layer);
    mixed.push_back({s.first_row, s.rows, s.first_position, state});
  }
  const MixCall call{spec_, layer, step.stage, block.own, mixed,          rows,
                     in,    out,   backend_,   threads_,  source_.label()};
  spec_.layer[static_cast<size_t>(layer)].mixer->mix(call);
}

void Transformer::activate(int64_t layer, float* gate, const float* up, int64_t n) const {
  if (up && spec_.gate_multiplier != 1) backend_.scale(gate, spec_.gate_multiplier, n);
  if (up && spec_.glu_limit != 0) {
    return clamped_glu(spec_.glu_limit, spec_.glu_alpha, gate, up, n, threads_);
  }
  if (!spec_.xielu) return backend_.activate(spec_.activation, gate, up, n);
  apply_xielu(xielu_of(layer), gate, n, threads_);
}

void Transformer::add_to_stream(float* x, float multiplier, int64_t rows, float* hidden) const {
  const int64_t values = rows * spec_.hidden;
  if (multiplier != 1) backend_.scale(x, multiplier, values);
  backend_.add(hidden, x, values);
}

// inner [rows, width] = activation(gate(x)) * up(x), or activation(up(x)) without a gate.
void Transformer::run_gated(int64_t layer, const Linear* gate_linear, const Linear& up,
                            const float* x, int64_t rows, float* inner) const {
  if (!gate_linear) {
    backend_.linear(*up.weight, up.bias, x, rows, inner);
    activate(layer, inner, nullptr, rows * up.weight->out);
    return;
  }
  const Linear& linear = *gate_linear;
  if (spec_.gate_multiplier != 1 || spec_.glu_limit != 0) {
    std::vector<float> factor(static_cast<size_t>(rows * up.weight->out));
    const std::array<LinearCall, 2> calls = {
        {{*linear.weight, linear.bias, inner}, {*up.weight, up.bias, factor.data()}}};
    backend_.linear(calls, x, rows);
    activate(layer, inner, factor.data(), rows * up.weight->out);
    return;
  }
  const Gate gate{*linear.weight, linear.bias, spec_.activation};
  const LinearCall call{*up.weight, up.bias, inner, &gate};
  backend_.linear(std::span(&call, 1), x, rows);
}

}  // namespace lewis
