#include "plan/matrix_pairs.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace lewis {
namespace {

constexpr int64_t kRows = 256;  // rows of a weight that are read and summed together

void check_same_text(const Statistics& a, const Statistics& b, const ImportanceInput& input) {
  if (a.protocol != b.protocol || a.tokens != b.tokens || a.sequences != b.sequences) {
    throw input_error(
        "the statistics of {} ({} tokens, {} sequences) and {} ({} tokens, {} sequences) are not "
        "of the same text and protocol",
        input.base.label(), a.tokens, a.sequences, input.expert.label(), b.tokens, b.sequences);
  }
}

// Squares of all matrices, and of what makes up fused weights and experts.
struct Squares {
  LayerValues module, module_few;  // sums over parts; over experts with many tokens, with few
  LayerValues part;
  void add(const CoveredMatrix& matrix, double squared, bool few) {
    (few ? module_few : module)[matrix.module] += squared;
    if (matrix.name != matrix.module) part[matrix.name] = std::sqrt(squared);
  }
  LayerValues modules() const {
    LayerValues all = module;
    all.insert(module_few.begin(), module_few.end());
    for (auto& [_, value] : all) value = std::sqrt(value);
    return all;
  }
};

}  // namespace

PairNorms norms_of_pairs(
    const ImportanceInput& input, ModelPlan& plan,
    const std::function<std::pair<double, double>(const MatrixPair& pair)>& squares) {
  check_same_text(input.base_statistics, input.expert_statistics, input);
  std::map<std::string, CoveredMatrix> base_matrices;
  for (CoveredMatrix& m : covered_matrices(input.base, input.base_statistics))
    base_matrices[m.name] = m;
  const auto matrices = covered_matrices(input.expert, input.expert_statistics);
  const std::string what = "plan " + input.expert.label();
  Squares base, expert;
  PairNorms norms;
  uint64_t done = 0;
  for (const CoveredMatrix& matrix : matrices) {
    const auto other = base_matrices.find(matrix.name);
    if (other == base_matrices.end()) continue;
    const int64_t tokens = std::min(matrix.tokens, other->second.tokens);
    const bool few = !matrix.expert.empty() && tokens < kFewTokens;
    if (few) {
      plan.few_tokens[matrix.expert] = tokens;
      norms.unsure.insert(matrix.name);
    }
    const auto [of_base, of_expert] = squares({other->second, matrix});
    base.add(other->second, of_base, few);
    expert.add(matrix, of_expert, few);
    if (input.progress) input.progress({what, "layers", ++done, matrices.size()});
  }
  norms.base = base.modules();
  norms.expert = expert.modules();
  norms.base_part = std::move(base.part);
  norms.expert_part = std::move(expert.part);
  return norms;
}

std::vector<float> read_rows(const TensorSource& source, const CoveredMatrix& matrix, int64_t first,
                             int64_t rows) {
  const TensorInfo& weight = *matrix.tensor;
  const int64_t columns = weight.shape.back();
  std::vector<std::byte> bytes(static_cast<size_t>(rows * columns) * dtype_size(weight.dtype));
  source.read(weight, (matrix.first_row + first) * columns, bytes);
  std::vector<float> values(static_cast<size_t>(rows * columns));
  widen(weight.dtype, bytes.data(), values);
  if (!all_finite(values)) {
    throw input_error("{}: tensor {} holds a value that is not finite (NaN or infinity)",
                      source.label(), weight.name);
  }
  return values;
}

double sum_over_rows(int64_t rows, Threads& threads,
                     const std::function<double(int64_t first, int64_t rows)>& square) {
  std::vector<double> partial(static_cast<size_t>((rows + kRows - 1) / kRows));
  threads.run(partial.size(), [&](size_t i) {
    const int64_t first = static_cast<int64_t>(i) * kRows;
    partial[i] = square(first, std::min(kRows, rows - first));
  });
  double total = 0;
  for (const double p : partial) total += p;
  return total;
}

double weighted_squares(std::span<const float> values, std::span<const double> s) {
  std::vector<double> squares(s.size(), 0.0);
  for (size_t row = 0; row < values.size(); row += s.size()) {
    for (size_t j = 0; j < s.size(); ++j) {
      const auto value = static_cast<double>(values[row + j]);
      squares[j] += value * value;
    }
  }
  double sum = 0;
  for (size_t j = 0; j < s.size(); ++j) sum += s[j] * squares[j];
  return sum;
}

}  // namespace lewis
