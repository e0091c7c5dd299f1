// Many methods are a linear combination of the models whose coefficients follow from angles and
// lengths alone: from the Gram matrix of the models or of their task vectors.
#pragma once

#include <span>
#include <vector>

#include "merge/method.h"

namespace lewis {

// Sum of a[i] * b[i] in double; the order of adding is fixed.
double dot_product(const float* a, const float* b, size_t n);
double sum_of(const double* x, size_t n);

// Symmetric matrix of dot products of n vectors, in double.
class Gram {
 public:
  explicit Gram(size_t n = 0) : n_(n), values_(n * n) {}
  size_t size() const { return n_; }
  double& at(size_t i, size_t j) { return values_[i * n_ + j]; }
  double at(size_t i, size_t j) const { return values_[i * n_ + j]; }
  double norm(size_t i) const;
  // The cosine of the angle between v[i] and v[j], in [-1, 1]; 0 where one of them is 0.
  double cosine(size_t i, size_t j) const;
  // Length of sum c[i] v[i]; 0 where rounding makes the square negative.
  double norm_of(std::span<const double> c) const;
  // Dot product of v[i] and sum c[j] v[j].
  double dot(size_t i, std::span<const double> c) const;

 private:
  size_t n_;
  std::vector<double> values_;
};

// The parts of a tensor that are taken as vectors: the whole tensor, each row (then the method must
// be row_wise), or each column (along the first dimension).
enum class Along { kTensor, kRows, kColumns };

// The Gram matrices of all vectors of a tensor: one, one per row or one per column. Its vectors are
// those of the models, followed by that of the base if `with_base`; with `deltas` they are those of
// the task vectors.
struct GramOptions {
  Along along = Along::kTensor;
  bool deltas = false, with_base = false;
};
std::vector<Gram> gram_matrices(const TensorTask& task, const ChunkPass& pass, GramOptions options);

// Result = sum over models of c[i] * model[i] + base * the last c.
struct Combination : Survey {
  Along along = Along::kTensor;
  size_t terms = 0;                  // models, and one more for the base if there is one
  std::vector<double> coefficients;  // [terms, 1 or rows or columns]
};

// Coefficients of one Gram matrix: its size() values, plus what deltas subtract from the base.
using Coefficients = std::vector<double> (*)(const TensorTask& task, const Gram& gram);

// Surveys the Gram matrices and turns each into coefficients. With `deltas` the coefficients are
// those of the task vectors: base gets 1 - their sum.
std::unique_ptr<Survey> combine_by_gram(const TensorTask& task, const ChunkPass& pass,
                                        GramOptions options, Coefficients coefficients);
void blend_combination(const TensorTask& task, const Survey& survey, const Chunk& chunk,
                       std::span<float> out);

}  // namespace lewis
