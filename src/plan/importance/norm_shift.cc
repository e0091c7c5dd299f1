// How much the activation-weighted norm of a layer moved (LEWIS, arXiv 2503.03874, section 3; spec
// steps 2b and 3): n(c, l) = || |W| sqrt(s) ||_F = sqrt(sum_j s_j ||W[:, j]||^2) for base and
// expert, delta = |n_expert - n_base|, divided by the sum over the layers of its component.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "plan/covered.h"
#include "plan/decimal.h"
#include "plan/tables.h"

namespace lewis {
namespace {

constexpr int64_t kRows = 256;  // rows of a weight that are read and summed together

// sum_j s_j ||W[:, j]||^2 of rows [first, first + rows): double sums in the order of the elements.
double weighted_squares(const TensorSource& source, const TensorInfo& weight,
                        std::span<const double> s, int64_t first, int64_t rows) {
  const int64_t columns = weight.shape.back();
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

// n^2 of one matrix.
double squared_norm(const TensorSource& source, const CoveredMatrix& matrix, Threads& threads) {
  const auto pieces = static_cast<size_t>((matrix.rows + kRows - 1) / kRows);
  std::vector<double> partial(pieces);
  threads.run(pieces, [&](size_t i) {
    const int64_t first = static_cast<int64_t>(i) * kRows;
    partial[i] = weighted_squares(source, *matrix.tensor, matrix.sums, matrix.first_row + first,
                                  std::min(kRows, matrix.rows - first));
  });
  double total = 0;
  for (const double p : partial) total += p;
  return total / matrix.divisor;
}

void check_same_text(const Statistics& a, const Statistics& b, const ImportanceInput& input) {
  if (a.protocol != b.protocol || a.tokens != b.tokens || a.sequences != b.sequences) {
    throw input_error(
        "the statistics of {} ({} tokens, {} sequences) and {} ({} tokens, {} sequences) are not "
        "of the same text and protocol",
        input.base.label(), a.tokens, a.sequences, input.expert.label(), b.tokens, b.sequences);
  }
}

// n^2 of all matrices, and of what makes up fused weights and experts.
struct Norms {
  LayerValues module, module_few;  // sums over parts; over experts with many tokens, with few
  LayerValues part;
  void add(const CoveredMatrix& matrix, double squared, bool few) {
    (few ? module_few : module)[matrix.module] += squared;
    if (matrix.name != matrix.module) part[matrix.name] = std::sqrt(squared);
  }
  // n of every module; experts that tell nothing count only where there are no others.
  LayerValues modules() const {
    LayerValues all = module;
    all.insert(module_few.begin(), module_few.end());
    for (auto& [_, value] : all) value = std::sqrt(value);
    return all;
  }
};

}  // namespace

void norm_shift(const ImportanceInput& input, ModelPlan& plan) {
  const Statistics& on_base = input.base_statistics;
  const Statistics& on_expert = input.expert_statistics;
  check_same_text(on_base, on_expert, input);
  std::map<std::string, CoveredMatrix> base_matrices;
  for (CoveredMatrix& m : covered_matrices(input.base, on_base)) base_matrices[m.name] = m;
  const std::vector<CoveredMatrix> matrices = covered_matrices(input.expert, on_expert);
  const std::string what = "plan " + input.expert.label();
  Norms base, expert;
  std::set<std::string> unsure;  // modules and parts of experts that saw few tokens
  uint64_t done = 0;
  for (const CoveredMatrix& matrix : matrices) {
    const auto other = base_matrices.find(matrix.name);
    if (other == base_matrices.end()) continue;
    const int64_t tokens = std::min(matrix.tokens, other->second.tokens);
    const bool few = !matrix.expert.empty() && tokens < kFewTokens;
    if (few) {
      plan.few_tokens[matrix.expert] = tokens;
      unsure.insert(matrix.name);
    }
    base.add(other->second, squared_norm(input.base, other->second, input.threads), few);
    expert.add(matrix, squared_norm(input.expert, matrix, input.threads), few);
    if (input.progress) input.progress({what, "layers", ++done, matrices.size()});
  }
  plan.base_norm = base.modules();
  plan.expert_norm = expert.modules();
  plan.importance = normalized_shift(plan.base_norm, plan.expert_norm, unsure);
  plan.part_importance = normalized_shift(base.part, expert.part, unsure);
}

namespace {

// The deltas of one component in one layer: one, or one for each expert.
struct Members {
  double sum = 0, sure_sum = 0;
  int64_t count = 0, sure = 0;
  // Of those that saw enough tokens; of all when there are no such.
  double mean() const {
    return sure ? sure_sum / static_cast<double>(sure) : sum / static_cast<double>(count);
  }
};

}  // namespace

LayerValues normalized_shift(const LayerValues& base_norm, const LayerValues& expert_norm,
                             const std::set<std::string>& unsure) {
  LayerValues delta;
  std::map<std::string, std::map<int64_t, Members>> members;  // by component, by layer
  const auto members_of = [&](const std::string& module) -> Members& {
    return members[component_of(module)][tensor_layer(module).value_or(0)];
  };
  for (const auto& [module, norm] : expert_norm) {
    const double d = delta[module] = std::abs(norm - base_norm.at(module));
    Members& m = members_of(module);
    m.sum += d;
    ++m.count;
    if (unsure.contains(module)) continue;
    m.sure_sum += d;
    ++m.sure;
  }
  for (auto& [module, value] : delta) {
    if (unsure.contains(module)) value = members_of(module).mean();
    double sum = 0;
    for (const auto& [_, m] : members[component_of(module)]) sum += m.mean();
    if (sum > 0) value /= sum;
    value = round_decimals(std::clamp(value, 0.0, 1.0), 5);
  }
  return delta;
}

}  // namespace lewis
