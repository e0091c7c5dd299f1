#include "model/block_builder.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "base/error.h"
#include "model/mixer.h"

namespace lewis {

BlockBuilder::BlockBuilder(const ModelSpec& spec, int64_t layer) : spec_(spec) {
  block_.layer = layer;
  block_.values.push_back({spec.hidden, kNoIndex});  // the stream
}

std::string BlockBuilder::in_block(std::string_view place, std::string_view name) const {
  return fmt::format("{}layers.{}.{}{}", spec_.prefix, block_.layer, place, name);
}

Value BlockBuilder::new_value(int64_t width) {
  block_.values.push_back({width, kNoIndex});
  return static_cast<Value>(block_.values.size()) - 1;
}

void BlockBuilder::add_step(decltype(Step::does) does, Values reads, Values writes,
                            bool linear_input) {
  const bool taps = linear_input && tapped_.insert(reads.at(0)).second;
  block_.steps.push_back({std::move(does), {}, taps});
  reads_.push_back(std::move(reads));
  writes_.push_back(std::move(writes));
}

int BlockBuilder::add_norm(std::string_view name, const NormSpec& norm, int64_t width) {
  block_.norms.push_back({in_block("", name), norm, width});
  return static_cast<int>(block_.norms.size()) - 1;
}

Value BlockBuilder::norm(std::string_view name, Value in) {
  const Value out = new_value(width(in));
  const int norm = name.empty() ? kNoIndex : add_norm(name, spec_.norm, width(in));
  add_step(NormStep{norm, in, out}, {in}, norm == kNoIndex ? Values() : Values{out}, false);
  return out;
}

void BlockBuilder::norm_in_place(std::string_view name, Value x, const NormSpec& norm) {
  if (name.empty()) return;
  add_step(NormStep{add_norm(name, norm, width(x)), x, x}, {x}, {}, false);
}

int BlockBuilder::add_linear(LinearLayer linear) {
  block_.linears.push_back(std::move(linear));
  return static_cast<int>(block_.linears.size()) - 1;
}

std::vector<int> BlockBuilder::own_linears(std::string_view place,
                                           std::span<const LinearPart> parts, Value in, bool bias,
                                           int64_t expert) {
  std::vector<int> indices;
  for (const LinearPart& part : parts) {
    const std::string name = in_block(place, part.name);
    indices.push_back(add_linear({.name = name,
                                  .module = name,
                                  .tensor = name + ".weight",
                                  .shape = {part.rows, width(in)},
                                  .out = part.rows,
                                  .in = width(in),
                                  .bias = bias ? name + ".bias" : "",
                                  .role = part.role,
                                  .expert = expert,
                                  .input = in}));
  }
  return indices;
}

std::vector<int> BlockBuilder::fused_linears(std::string_view place, std::string_view fused,
                                             std::span<const LinearPart> parts, Value in, bool bias,
                                             int64_t expert) {
  const std::string module = in_block(place, fused);
  const int64_t all = std::accumulate(parts.begin(), parts.end(), int64_t{0},
                                      [](int64_t n, const LinearPart& p) { return n + p.rows; });
  std::vector<int> indices;
  int64_t first = 0;
  for (const LinearPart& part : parts) {
    indices.push_back(add_linear({.name = in_block(place, part.name),
                                  .module = module,
                                  .tensor = module + ".weight",
                                  .shape = {all, width(in)},
                                  .first_row = first,
                                  .out = part.rows,
                                  .in = width(in),
                                  .bias = bias ? module + ".bias" : "",
                                  .role = part.role,
                                  .expert = expert,
                                  .input = in}));
    first += part.rows;
  }
  return indices;
}

std::vector<Value> BlockBuilder::linears(std::string_view place, std::span<const LinearPart> parts,
                                         Value in, bool bias, std::string_view fused) {
  const std::vector<int> indices = fused.empty()
                                       ? own_linears(place, parts, in, bias, kDense)
                                       : fused_linears(place, fused, parts, in, bias, kDense);
  LinearsStep step{in, {}};
  Values outs;
  for (const int index : indices) {
    outs.push_back(new_value(block_.linear(index).out));
    step.outputs.push_back({index, outs.back()});
  }
  add_step(std::move(step), {in}, outs, true);
  return outs;
}

Value BlockBuilder::linear(std::string_view place, const LinearPart& part, Value in, bool bias) {
  return linears(place, std::span(&part, 1), in, bias)[0];
}

std::vector<Value> BlockBuilder::mix(std::vector<Value> in, std::span<const int64_t> widths,
                                     int stage) {
  Values outs;
  for (const int64_t width : widths) outs.push_back(new_value(width));
  add_step(MixStep{first_stage_ + stage, in, outs}, in, outs, false);
  return outs;
}

void BlockBuilder::own_tensor(std::string_view name, Shape shape, bool plus_one) {
  block_.own.push_back({in_block("", name), std::move(shape), plus_one});
}

void BlockBuilder::add_to_stream(Value x, float multiplier) {
  add_step(AddStep{x, multiplier}, {x}, {}, false);
}

void BlockBuilder::sum(Value into, Value from) {
  add_step(SumStep{into, from}, {into, from}, {}, false);
}

ExpertLinears BlockBuilder::mlp_linears(const MlpShape& mlp, Value in, Value inner,
                                        int64_t expert) {
  const bool bias = mlp.bias;
  std::vector<LinearPart> parts;
  if (!mlp.names.gate.empty()) parts.push_back({mlp.names.gate, mlp.inner, LinearRole::kGate});
  parts.push_back({mlp.names.up, mlp.inner, LinearRole::kUp});
  const std::vector<int> before =
      mlp.gate_up.empty() ? own_linears(mlp.place, parts, in, bias, expert)
                          : fused_linears(mlp.place, mlp.gate_up, parts, in, bias, expert);
  const LinearPart down = {mlp.names.down, mlp.out ? mlp.out : spec_.hidden, LinearRole::kDown};
  return {before.size() > 1 ? before[0] : kNoIndex, before.back(),
          own_linears(mlp.place, std::span(&down, 1), inner, bias, expert)[0]};
}

Value BlockBuilder::mlp(const MlpShape& mlp, Value x) {
  const Value inner = new_value(mlp.inner);
  const auto [gate, up, down] = mlp_linears(mlp, x, inner, kDense);
  add_step(GatedStep{gate, up, x, inner}, {x}, {inner}, true);
  const Value out = new_value(spec_.hidden);
  add_step(LinearsStep{inner, {{down, out}}}, {inner}, {out}, true);
  return out;
}

Value BlockBuilder::mlp(Value x) {
  const int64_t own = layer().intermediate;
  return mlp({std::string(spec_.mlp_place), spec_.mlp, spec_.gate_up,
              own ? own : spec_.intermediate, 0, spec_.mlp_bias},
             x);
}

// Gemma 4: the MLP and the experts, which read the hidden states by norms of their own.
Value BlockBuilder::mlp_and_experts(Value x) {
  const Value dense = mlp(x);
  norm_in_place("post_feedforward_layernorm_1", dense, spec_.norm);
  const Value hidden = norm("", kStream);
  own_tensor("router.scale", {spec_.hidden});
  const Value seen = mix({hidden}, std::array{spec_.hidden}, kRouterInput)[0];
  const Value out = routed(seen, norm("pre_feedforward_layernorm_2", kStream));
  norm_in_place("post_feedforward_layernorm_2", out, spec_.norm);
  sum(out, dense);
  return out;
}

void BlockBuilder::add_per_layer_input() {
  const int64_t inner = spec_.per_layer_width;
  const Value gate = linear("", {"per_layer_input_gate", inner}, norm("", kStream), false);
  add_step(PerLayerStep{gate}, {gate}, {}, false);
  const Value out = linear("", {"per_layer_projection", spec_.hidden}, gate, false);
  norm_in_place("post_per_layer_input_norm", out, spec_.norm);
  add_to_stream(out);
}

void BlockBuilder::scale_stream(std::string_view tensor) {
  const auto index = static_cast<int>(block_.own.size());
  own_tensor(tensor, {1});
  add_step(ScaleStep{index}, {kStream}, {}, false);
}

// The tensors of an expert; those of all experts are one where they are fused.
ExpertLinears BlockBuilder::routed_expert(const std::string& place, int64_t expert,
                                          const ExpertsStep& step) {
  const ExpertsSpec& e = spec_.experts;
  const size_t first = block_.linears.size();
  const ExpertLinears linears = mlp_linears(
      {fmt::format("{}{}.", place, expert), e.names, "", e.intermediate, e.latent, e.bias},
      step.expert_in, step.expert_inner, expert);
  for (size_t n = first; n < block_.linears.size(); ++n) {
    LinearLayer& linear = block_.linears[n];
    linear.module = in_block("", place.substr(0, place.size() - 1));
    if (!e.fused) continue;
    const bool down = linear.role == LinearRole::kDown;
    linear.tensor = in_block(place, down ? "down_proj" : "gate_up_proj");
    const int64_t rows = down ? linear.out : 2 * linear.out;  // of one expert
    linear.shape = {e.count, rows, linear.in};
    linear.first_row = expert * rows + (linear.role == LinearRole::kUp ? linear.out : 0);
  }
  return linears;
}

BlockBuilder::MlpShape BlockBuilder::shared_expert() const {
  const ExpertsSpec& e = spec_.experts;
  return {std::string(e.shared), e.shared_names, e.shared_gate_up, e.shared_intermediate, 0,
          spec_.mlp_bias};
}

// A shared expert without a switch is an MLP of its own.
Value BlockBuilder::experts(Value x) {
  const ExpertsSpec& e = spec_.experts;
  const bool apart = e.shared_intermediate && e.shared_switch.empty();
  const Value shared = apart ? mlp(shared_expert(), x) : kNoIndex;
  Value out;
  if (e.latent) {
    const std::string place = e.module + ".";
    const Value in = linear(place, {"fc1_latent_proj", e.latent}, x, spec_.mlp_bias);
    out = linear(place, {"fc2_latent_proj", spec_.hidden}, routed(x, in), spec_.mlp_bias);
  } else {
    out = routed(x, x);
  }
  if (apart) sum(out, shared);
  return out;
}

Value BlockBuilder::routed(Value x, Value routed_in) {
  const ExpertsSpec& e = spec_.experts;
  const std::string place = e.module.empty() ? "" : e.module + ".";
  const int64_t outside = width(routed_in);
  ExpertsStep step;
  step.in = x;
  step.routed_in = routed_in;
  step.out = new_value(outside);
  step.scores = new_value(e.count);
  step.expert_in = new_value(outside);
  step.expert_inner = new_value(e.intermediate);
  step.expert_out = new_value(outside);
  Values writes = {step.out, step.scores, step.expert_in, step.expert_inner, step.expert_out};
  const LinearPart router = {e.gate_name, e.count, LinearRole::kRouter};
  step.router = own_linears(place, std::span(&router, 1), x, e.router_bias, kDense)[0];
  if (!e.correction.empty()) {
    step.correction = static_cast<int>(block_.own.size());
    own_tensor(place + e.correction, {e.count});
  }
  if (e.beside_mlp) {
    step.scales = static_cast<int>(block_.own.size());
    own_tensor("router.per_expert_scale", {e.count});
  }
  if (e.shared_intermediate && !e.shared_switch.empty()) {
    step.shared_inner = new_value(e.shared_intermediate);
    writes.push_back(step.shared_inner);
    step.shared = mlp_linears(shared_expert(), x, step.shared_inner, kShared);
    const LinearPart open = {e.shared_switch, 1, LinearRole::kSharedSwitch};
    step.shared_switch = own_linears(place, std::span(&open, 1), x, false, kDense)[0];
  }
  for (int64_t i = 0; i < e.count; ++i)
    step.experts.push_back(routed_expert(place + "experts.", i, step));
  const Value out = step.out;
  add_step(std::move(step), {x, routed_in}, std::move(writes), true);
  return out;
}

// A value ends with the last step that touches it.
void BlockBuilder::find_ends() {
  std::vector<bool> ended(block_.values.size());
  ended[kStream] = true;  // it outlives the block
  for (size_t i = block_.steps.size(); i-- > 0;) {
    for (const Values& touched : {reads_[i], writes_[i]}) {
      for (const Value value : touched) {
        if (ended[static_cast<size_t>(value)]) continue;
        ended[static_cast<size_t>(value)] = true;
        block_.steps[i].ends.push_back(value);
      }
    }
  }
}

// Values that do not exist at the same time share working memory: a new one takes the widest slot
// that is free.
void BlockBuilder::assign_slots() {
  std::set<std::pair<int64_t, int>> free;  // width of the slot, slot
  for (size_t i = 0; i < block_.steps.size(); ++i) {
    for (const Value value : writes_[i]) {
      BlockValue& v = block_.values[static_cast<size_t>(value)];
      if (free.empty()) {
        v.slot = static_cast<int>(block_.slots.size());
        block_.slots.push_back(v.width);
      } else {
        v.slot = free.rbegin()->second;
        free.erase(std::prev(free.end()));
        int64_t& widest = block_.slots[static_cast<size_t>(v.slot)];
        widest = std::max(widest, v.width);
      }
    }
    for (const Value value : block_.steps[i].ends) {
      const int slot = block_.values[static_cast<size_t>(value)].slot;
      if (slot != kNoIndex) free.emplace(block_.slots[static_cast<size_t>(slot)], slot);
    }
  }
}

BlockSteps BlockBuilder::finish() {
  find_ends();
  assign_slots();
  return std::move(block_);
}

}  // namespace lewis
