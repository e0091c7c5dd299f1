#include "merge/extraction/low_rank_fit.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "compute/decompositions.h"

namespace lewis {
namespace {

constexpr int kPowers = 3;
constexpr double kNothing = 1e-9;  // what is left of a row that the rows before it span

// More samples than the rank, so that the last singular values are right as well.
int64_t samples_for(int64_t rank) { return rank + std::max<int64_t>(10, rank / 2); }

// [rows, columns] numbers of a normal distribution (Box and Muller).
std::vector<float> normal_numbers(int64_t rows, int64_t columns, const TensorRandom& random) {
  std::vector<float> numbers(static_cast<size_t>(rows * columns));
  std::vector<uint32_t> bits(2 * ((numbers.size() + 1) / 2));
  random.fill(0, bits);
  for (size_t i = 0; i < numbers.size(); i += 2) {
    const double radius = std::sqrt(-2 * std::log((bits[i] + 1.0) / 0x1p32));
    const double angle = 2 * std::numbers::pi * (bits[i + 1] / 0x1p32);
    numbers[i] = static_cast<float>(radius * std::cos(angle));
    if (i + 1 < numbers.size()) numbers[i + 1] = static_cast<float>(radius * std::sin(angle));
  }
  return numbers;
}

double dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// Makes the rows of y orthonormal, one after the other; a row that those before it span becomes 0.
// Returns the lower triangle L with y = L times what y becomes. (Gram-Schmidt, each row twice.)
DoubleMatrix orthonormal_rows(DoubleMatrix& y, Threads& threads) {
  DoubleMatrix lower(y.rows, y.rows);
  std::vector<double> shares(static_cast<size_t>(y.rows));
  const auto row = [&](int64_t i) { return y.values.data() + i * y.columns; };
  constexpr int64_t kColumnsOfPiece = 2048;
  const auto pieces = static_cast<size_t>((y.columns + kColumnsOfPiece - 1) / kColumnsOfPiece);
  for (int64_t i = 0; i < y.rows; ++i) {
    const double before = std::sqrt(dot(row(i), row(i), y.columns));
    for (int pass = 0; pass < 2 && i > 0; ++pass) {
      threads.run(static_cast<size_t>(i), [&](size_t j) {
        shares[j] = dot(row(i), row(static_cast<int64_t>(j)), y.columns);
      });
      threads.run(pieces, [&](size_t p) {
        const int64_t first = static_cast<int64_t>(p) * kColumnsOfPiece;
        const int64_t end = std::min(y.columns, first + kColumnsOfPiece);
        for (int64_t j = 0; j < i; ++j) {
          for (int64_t c = first; c < end; ++c)
            row(i)[c] -= shares[static_cast<size_t>(j)] * row(j)[c];
        }
      });
      for (int64_t j = 0; j < i; ++j) lower.at(i, j) += shares[static_cast<size_t>(j)];
    }
    const double left = std::sqrt(dot(row(i), row(i), y.columns));
    const bool is_new = left > kNothing * before;
    lower.at(i, i) = is_new ? left : 0;
    for (int64_t c = 0; c < y.columns; ++c) row(i)[c] = is_new ? row(i)[c] / left : 0;
  }
  return lower;
}

std::vector<float> to_floats(const DoubleMatrix& m) { return {m.values.begin(), m.values.end()}; }

std::vector<float> transposed(const DoubleMatrix& m) {
  std::vector<float> t(m.values.size());
  for (int64_t i = 0; i < m.rows; ++i) {
    for (int64_t j = 0; j < m.columns; ++j)
      t[static_cast<size_t>(j * m.rows + i)] = static_cast<float>(m.at(i, j));
  }
  return t;
}

// The factors b = u s^1/2 and a = s^1/2 v^T / weights of Q^T (u s v^T) Z, where q and z have
// orthonormal rows.
LowRankFit factors_of(const SingularVectors& s, const DoubleMatrix& q, const DoubleMatrix& z,
                      std::span<const float> weights, int64_t rank) {
  LowRankFit fit;
  fit.values = s.values;
  fit.rank = std::min<int64_t>(rank, static_cast<int64_t>(s.values.size()));
  fit.b.resize(static_cast<size_t>(q.columns * fit.rank));
  fit.a.resize(static_cast<size_t>(fit.rank * z.columns));
  std::vector<double> row(static_cast<size_t>(std::max(q.columns, z.columns)));
  const auto combine = [&](const DoubleMatrix& basis, const DoubleMatrix& vectors, int64_t k) {
    std::fill(row.begin(), row.end(), 0.0);
    for (int64_t i = 0; i < basis.rows; ++i) {
      const double factor = vectors.at(i, k) * std::sqrt(s.values[static_cast<size_t>(k)]);
      const double* from = basis.values.data() + i * basis.columns;
      for (int64_t c = 0; c < basis.columns; ++c) row[static_cast<size_t>(c)] += factor * from[c];
    }
  };
  for (int64_t k = 0; k < fit.rank; ++k) {
    combine(q, s.u, k);
    for (int64_t r = 0; r < q.columns; ++r)
      fit.b[static_cast<size_t>(r * fit.rank + k)] =
          static_cast<float>(row[static_cast<size_t>(r)]);
    combine(z, s.v, k);
    for (int64_t c = 0; c < z.columns; ++c) {
      const double weight = weights.empty() ? 1 : weights[static_cast<size_t>(c)];
      fit.a[static_cast<size_t>(k * z.columns + c)] =
          static_cast<float>(row[static_cast<size_t>(c)] / weight);
    }
  }
  return fit;
}

}  // namespace

LowRankFit fit_low_rank(const FloatMatrix& d, std::span<const float> weights, int64_t rank,
                        const TensorRandom& random, Threads& threads) {
  std::vector<float> weighted;
  FloatMatrix x = d;
  if (!weights.empty()) {
    weighted.resize(static_cast<size_t>(d.rows * d.columns));
    threads.run(static_cast<size_t>(d.rows), [&](size_t r) {
      const float* from = d.data + static_cast<int64_t>(r) * d.stride;
      float* to = weighted.data() + static_cast<int64_t>(r) * d.columns;
      for (int64_t c = 0; c < d.columns; ++c) to[c] = from[c] * weights[static_cast<size_t>(c)];
    });
    x = {weighted.data(), d.rows, d.columns, d.columns};
  }
  const int64_t samples = std::min({samples_for(rank), d.rows, d.columns});
  const std::vector<float> start = normal_numbers(samples, d.columns, random);
  DoubleMatrix q(samples, d.rows), z(samples, d.columns), lower;
  row_products({start.data(), samples, d.columns, d.columns}, x, q.values, threads);
  for (int power = 0;; ++power) {
    (void)orthonormal_rows(q, threads);
    const std::vector<float> columns = transposed(q);
    std::ranges::fill(z.values, 0.0);
    add_products({columns.data(), d.rows, samples, samples}, x, {}, z.values, threads);
    lower = orthonormal_rows(z, threads);  // q x = lower z
    if (power == kPowers) break;
    const std::vector<float> rows = to_floats(z);
    row_products({rows.data(), samples, d.columns, d.columns}, x, q.values, threads);
  }
  const SingularVectors s = singular_vectors(std::span(&lower, 1), threads).front();
  return factors_of(s, q, z, weights, rank);
}

double squared_residual(const FloatMatrix& d, std::span<const float> weights,
                        std::span<const float> b, std::span<const float> a, int64_t rank,
                        Threads& threads) {
  constexpr int64_t kRows = 256;
  std::vector<float> columns(a.size());  // [columns, rank]
  for (int64_t k = 0; k < rank; ++k) {
    for (int64_t c = 0; c < d.columns; ++c)
      columns[static_cast<size_t>(c * rank + k)] = a[static_cast<size_t>(k * d.columns + c)];
  }
  double sum = 0;
  std::vector<double> product;
  for (int64_t first = 0; first < d.rows; first += kRows) {
    const int64_t rows = std::min(kRows, d.rows - first);
    product.assign(static_cast<size_t>(rows * d.columns), 0);
    if (rank > 0) {
      row_products({b.data() + first * rank, rows, rank, rank},
                   {columns.data(), d.columns, rank, rank}, product, threads);
    }
    for (int64_t r = 0; r < rows; ++r) {
      const float* from = d.data + (first + r) * d.stride;
      for (int64_t c = 0; c < d.columns; ++c) {
        const double weight = weights.empty() ? 1 : weights[static_cast<size_t>(c)];
        const double left = (from[c] - product[static_cast<size_t>(r * d.columns + c)]) * weight;
        sum += left * left;
      }
    }
  }
  return sum;
}

}  // namespace lewis
