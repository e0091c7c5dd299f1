#include "plan/covered.h"

#include <algorithm>
#include <array>

#include "base/error.h"

namespace lewis {
namespace {

class Listing {
 public:
  Listing(const TensorSource& source, const Statistics& statistics)
      : source_(source), statistics_(statistics) {}

  std::vector<CoveredMatrix> run() {
    for (const auto& [module, sums] : statistics_.sum_squares) {
      CoveredMatrix matrix{.name = module, .module = module};
      matrix.sums = sums;
      matrix.divisor = statistics_.divisor();
      add_parts(matrix, weight_of(source_, module), 0, -1, module.substr(0, module.rfind('.')));
    }
    for (const auto& [module, experts] : statistics_.experts) {
      for (size_t e = 0; e < experts.tokens.size(); ++e) add_expert(module, experts, e);
    }
    std::ranges::sort(matrices_, {}, &CoveredMatrix::name);
    return std::move(matrices_);
  }

 private:
  // One matrix for each part of what lies from first_row on: `rows` rows, or all (-1).
  void add_parts(CoveredMatrix matrix, const TensorInfo& tensor, int64_t first_row, int64_t rows,
                 const std::string& place) {
    if (tensor.shape.size() < 2 || !is_arithmetic(tensor.dtype) ||
        tensor.shape.back() != static_cast<int64_t>(matrix.sums.size())) {
      throw input_error(
          "{}: tensor {} is {} {}, the statistics ask for [out, {}] of F32, F16 or BF16",
          source_.label(), tensor.name, dtype_name(tensor.dtype), to_string(tensor.shape),
          matrix.sums.size());
    }
    const int64_t all = element_count(tensor.shape) / tensor.shape.back();
    matrix.tensor = &tensor;
    matrix.first_row = first_row;
    matrix.rows = rows < 0 ? all : rows;
    const auto fused = statistics_.fused.find(matrix.module.substr(matrix.module.rfind('.') + 1));
    if (fused == statistics_.fused.end()) {
      matrices_.push_back(std::move(matrix));
      return;
    }
    int64_t left = matrix.rows;
    for (const FusedPart& part : fused->second) {
      matrix.name = place + "." + part.name;
      matrix.rows = part.rows;
      matrices_.push_back(matrix);
      matrix.first_row += part.rows;
      left -= part.rows;
    }
    if (left != 0) {
      throw input_error("{}: tensor {} has {} rows that no part of the statistics describes",
                        source_.label(), tensor.name, left);
    }
  }

  void add_expert(const std::string& module, const ExpertStatistics& experts, size_t e) {
    const size_t count = experts.tokens.size();
    const size_t hidden = experts.in.size() / count, ffn = experts.mid.size() / count;
    CoveredMatrix matrix;
    matrix.expert = fmt::format("{}.{}", module, e);
    matrix.tokens = experts.tokens[e];
    const bool clean = statistics_.protocol == Protocol::kClean;
    matrix.divisor =
        clean ? static_cast<double>(std::max<int64_t>(1, matrix.tokens)) : statistics_.divisor();
    const auto in = std::span(experts.in).subspan(e * hidden, hidden);
    const auto mid = std::span(experts.mid).subspan(e * ffn, ffn);
    if (const TensorInfo* fused = source_.find(module + ".gate_up_proj")) {
      add_slice(matrix, *fused, in, e);
      add_slice(matrix, source_.get(module + ".down_proj"), mid, e);
      return;
    }
    const bool mixtral = source_.find(matrix.expert + ".w1.weight");
    const auto names =
        mixtral ? std::array{"w1", "w3", "w2"} : std::array{"gate_proj", "up_proj", "down_proj"};
    for (size_t i = 0; i < names.size(); ++i) {
      const bool gate = i == 0;  // some experts have none
      if (gate && !source_.find(fmt::format("{}.{}.weight", matrix.expert, names[i]))) continue;
      matrix.name = matrix.module = fmt::format("{}.{}", matrix.expert, names[i]);
      matrix.sums = i < 2 ? in : mid;
      const TensorInfo& tensor = source_.get(matrix.module + ".weight");
      add_parts(matrix, tensor, 0, -1, matrix.expert);
    }
  }

  // Expert e of a tensor [experts, rows, in].
  void add_slice(CoveredMatrix matrix, const TensorInfo& tensor, std::span<const double> sums,
                 size_t e) {
    if (tensor.shape.size() != 3 || static_cast<int64_t>(e) >= tensor.shape[0]) {
      throw input_error("{}: tensor {} has shape {}, expected [experts, rows, in]", source_.label(),
                        tensor.name, to_string(tensor.shape));
    }
    matrix.module = tensor.name;
    matrix.name = matrix.expert + tensor.name.substr(tensor.name.rfind('.'));
    matrix.sums = sums;
    add_parts(matrix, tensor, static_cast<int64_t>(e) * tensor.shape[1], tensor.shape[1],
              matrix.expert);
  }

  const TensorSource& source_;
  const Statistics& statistics_;
  std::vector<CoveredMatrix> matrices_;
};

}  // namespace

std::vector<CoveredMatrix> covered_matrices(const TensorSource& source,
                                            const Statistics& statistics) {
  return Listing(source, statistics).run();
}

const TensorInfo& weight_of(const TensorSource& source, const std::string& module) {
  const TensorInfo* own = source.find(module);
  return own ? *own : source.get(module + ".weight");
}

}  // namespace lewis
