#include "merge/common/task_matrices.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "merge/common/gram.h"
#include "merge/sources/embeddings.h"

namespace lewis {
namespace {

struct MatrixSurvey : Survey {
  std::vector<float> merged;  // the merged task vector of a linear layer, [rows, columns]
  Combination mean;           // of any other tensor
};

bool is_zero(const DoubleMatrix& m) {
  return std::ranges::all_of(m.values, [](double x) { return x == 0; });
}

// base + lambda / models * sum of weight (model - base).
Combination mean_of_task_vectors(const TensorTask& task) {
  Combination mean;
  mean.terms = task.models.size() + 1;
  double rest = 1;
  for (const ModelParameters& m : task.models) {
    const double share = task["lambda"] * m["weight"] / static_cast<double>(task.models.size());
    mean.coefficients.push_back(share);
    rest -= share;
  }
  mean.coefficients.push_back(rest);
  return mean;
}

// weight (model - base) for each model.
std::vector<DoubleMatrix> weighted_task_matrices(const TensorTask& task, const ChunkPass& pass) {
  std::vector<DoubleMatrix> tau(task.models.size(), DoubleMatrix(task.rows(), task.columns()));
  pass.run_all([&](size_t, const Chunk& chunk) {
    for (size_t m = 0; m < tau.size(); ++m) {
      const double weight = task.models[m]["weight"];
      double* out = tau[m].values.data() + chunk.first;
      for (size_t i = 0; i < chunk.size(); ++i)
        out[i] = weight * (static_cast<double>(chunk.models[m][i]) - chunk.base[i]);
    }
  });
  for (const DoubleMatrix& t : tau) {
    if (!std::ranges::all_of(t.values, [](double x) { return std::isfinite(x); }))
      throw input_error("tensor {} has a value that is not finite", task.name);
  }
  return tau;
}

}  // namespace

bool is_linear_layer(std::string_view name, const Shape& shape) {
  return shape.size() == 2 && element_count(shape) > 0 && !is_named_embedding(name) &&
         name.find("embed") == std::string_view::npos;
}

double inner_product(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

void add_to(const DoubleMatrix& a, double factor, DoubleMatrix& sum) {
  for (size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += factor * a.values[i];
}

std::unique_ptr<Survey> survey_matrices(const TensorTask& task, const ChunkPass& pass,
                                        MergeMatrices merge) {
  auto survey = std::make_unique<MatrixSurvey>();
  if (!is_linear_layer(task.name, task.shape)) {
    survey->mean = mean_of_task_vectors(task);
    return survey;
  }
  std::vector<DoubleMatrix> tau = weighted_task_matrices(task, pass);
  if (task["lambda"] == 0 || std::ranges::all_of(tau, is_zero)) {
    survey->copy_of = Survey::kBaseItself;
    return survey;
  }
  const DoubleMatrix merged = merge(task, std::move(tau), pass.threads());
  survey->merged.resize(merged.values.size());
  std::ranges::transform(merged.values, survey->merged.begin(),
                         [&](double x) { return static_cast<float>(task["lambda"] * x); });
  return survey;
}

void blend_matrices(const TensorTask& task, const Survey& survey, const Chunk& chunk,
                    std::span<float> out) {
  const auto& s = static_cast<const MatrixSurvey&>(survey);
  if (s.merged.empty()) return blend_combination(task, s.mean, chunk, out);
  const float* merged = s.merged.data() + chunk.first;
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = merged[i] == 0 ? chunk.base[i] : chunk.base[i] + merged[i];
}

}  // namespace lewis
