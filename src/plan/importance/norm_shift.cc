// How much the activation-weighted norm of a layer moved (LEWIS, arXiv 2503.03874, section 3; spec
// steps 2b and 3): n(c, l) = || |W| sqrt(s) ||_F = sqrt(sum_j s_j ||W[:, j]||^2) for base and
// expert, delta = |n_expert - n_base|, divided by the sum over the layers of its component.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "plan/decimal.h"
#include "plan/tables.h"

namespace lewis {
namespace {

constexpr int64_t kRows = 256;  // rows of a weight that are read and summed together

// sum_j s_j ||W[:, j]||^2 of rows [first, first + rows): double sums in the order of the elements.
double weighted_squares(const TensorSource& source, const TensorInfo& weight,
                        std::span<const double> s, int64_t first, int64_t rows) {
  const int64_t columns = weight.shape[1];
  std::vector<std::byte> bytes(static_cast<size_t>(rows * columns) * dtype_size(weight.dtype));
  source.read(weight, first * columns, bytes);
  std::vector<float> values(static_cast<size_t>(rows * columns));
  widen(weight.dtype, bytes.data(), values);
  if (!all_finite(values)) {
    throw input_error("{}: tensor {} holds a value that is not finite (NaN or infinity)",
                      source.label(), weight.name);
  }
  std::vector<double> squares(static_cast<size_t>(columns), 0.0);
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = values.data() + r * columns;
    for (size_t j = 0; j < squares.size(); ++j)
      squares[j] += static_cast<double>(row[j]) * static_cast<double>(row[j]);
  }
  double sum = 0;
  for (size_t j = 0; j < squares.size(); ++j) sum += s[j] * squares[j];
  return sum;
}

double activation_weighted_norm(const TensorSource& source, const TensorInfo& weight,
                                std::span<const double> sums, double divisor, Threads& threads) {
  const int64_t out = weight.shape[0];
  const auto pieces = static_cast<size_t>((out + kRows - 1) / kRows);
  std::vector<double> partial(pieces);
  threads.run(pieces, [&](size_t i) {
    const int64_t first = static_cast<int64_t>(i) * kRows;
    partial[i] = weighted_squares(source, weight, sums, first, std::min(kRows, out - first));
  });
  double total = 0;
  for (const double p : partial) total += p;
  return std::sqrt(total / divisor);
}

// The weight of a module, proven to fit its statistics.
const TensorInfo& covered_weight(const TensorSource& source, const std::string& module,
                                 size_t in_features) {
  const TensorInfo& weight = source.get(module + ".weight");
  if (weight.shape.size() != 2 || weight.shape[1] != static_cast<int64_t>(in_features) ||
      !is_arithmetic(weight.dtype)) {
    throw input_error(
        "{}: tensor {} is {} {}, the statistics ask for [out, {}] of F32, F16 or BF16",
        source.label(), weight.name, dtype_name(weight.dtype), to_string(weight.shape),
        in_features);
  }
  return weight;
}

void check_same_text(const Statistics& a, const Statistics& b, const ImportanceInput& input) {
  if (a.protocol != b.protocol || a.tokens != b.tokens || a.sequences != b.sequences) {
    throw input_error(
        "the statistics of {} ({} tokens, {} sequences) and {} ({} tokens, {} sequences) are not "
        "of the same text and protocol",
        input.base.label(), a.tokens, a.sequences, input.expert.label(), b.tokens, b.sequences);
  }
}

}  // namespace

void norm_shift(const ImportanceInput& input, ModelPlan& plan) {
  const Statistics& on_base = input.base_statistics;
  const Statistics& on_expert = input.expert_statistics;
  check_same_text(on_base, on_expert, input);
  const std::string what = "plan " + input.expert.label();
  uint64_t done = 0;
  for (const auto& [module, sums] : on_expert.sum_squares) {
    const auto it = on_base.sum_squares.find(module);
    if (it == on_base.sum_squares.end()) continue;
    const TensorInfo& base = covered_weight(input.base, module, it->second.size());
    const TensorInfo& expert = covered_weight(input.expert, module, sums.size());
    plan.base_norm[module] =
        activation_weighted_norm(input.base, base, it->second, on_base.divisor(), input.threads);
    plan.expert_norm[module] =
        activation_weighted_norm(input.expert, expert, sums, on_expert.divisor(), input.threads);
    if (input.progress) input.progress({what, "layers", ++done, on_expert.sum_squares.size()});
  }
  plan.importance = normalized_shift(plan.base_norm, plan.expert_norm);
}

LayerValues normalized_shift(const LayerValues& base_norm, const LayerValues& expert_norm) {
  LayerValues delta;
  std::map<std::string, std::vector<std::pair<int64_t, double>>>
      of_component;  // by layer, as the paper sums
  for (const auto& [module, norm] : expert_norm) {
    delta[module] = std::abs(norm - base_norm.at(module));
    of_component[component_of(module)].emplace_back(tensor_layer(module).value_or(0),
                                                    delta[module]);
  }
  for (auto& [component, values] : of_component) std::sort(values.begin(), values.end());
  for (auto& [module, value] : delta) {
    double sum = 0;
    for (const auto& [_, v] : of_component[component_of(module)]) sum += v;
    if (sum > 0) value /= sum;
    value = round_decimals(std::clamp(value, 0.0, 1.0), 5);
  }
  return delta;
}

}  // namespace lewis
