// Eigen has another name here, so that the linker cannot take code that was compiled for another
// instruction set, and so that the sizes of caches, which decide in what order products are summed,
// are set for this file alone.
#define Eigen EigenPortable
#define EIGEN_DONT_PARALLELIZE
#define EIGEN_NO_IO
#include "compute/decompositions.h"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include "base/error.h"

namespace lewis {
namespace {

using Values = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Columns = Eigen::MatrixXd;  // column-major
using View = Eigen::Map<Values>;
using ConstView = Eigen::Map<const Values>;
using Vector = Eigen::VectorXd;

View view(DoubleMatrix& m) { return {m.values.data(), m.rows, m.columns}; }
ConstView view(const DoubleMatrix& m) { return {m.values.data(), m.rows, m.columns}; }

// Eigen asks the processor for its caches unless it was told before.
void fix_order_of_sums() {
  static const bool done = [] {
    Eigen::setCpuCacheSizes(32 << 10, 256 << 10, 2 << 20);
    return true;
  }();
  (void)done;
}

void check(bool fits, const char* what) {
  if (!fits) throw failed_error("{}: the matrices do not fit each other", what);
}

constexpr int64_t kRows = 64;  // rows of a result that one thread computes at a time

// Calls f(first, count) on all threads for pieces of n rows.
template <typename F>
void for_rows(int64_t n, Threads& threads, const F& f) {
  fix_order_of_sums();
  threads.run(static_cast<size_t>((n + kRows - 1) / kRows), [&](size_t piece) {
    const int64_t first = static_cast<int64_t>(piece) * kRows;
    f(first, std::min(kRows, n - first));
  });
}

}  // namespace

void add_product(const DoubleMatrix& a, const DoubleMatrix& b, DoubleMatrix& c, Threads& threads) {
  check(a.columns == b.rows && c.rows == a.rows && c.columns == b.columns, "add_product");
  for_rows(c.rows, threads, [&](int64_t first, int64_t count) {
    view(c).middleRows(first, count).noalias() += view(a).middleRows(first, count) * view(b);
  });
}

void add_product_transposed(const DoubleMatrix& a, const DoubleMatrix& b, DoubleMatrix& c,
                            Threads& threads) {
  check(a.columns == b.columns && c.rows == a.rows && c.columns == b.rows,
        "add_product_transposed");
  for_rows(c.rows, threads, [&](int64_t first, int64_t count) {
    view(c).middleRows(first, count).noalias() +=
        view(a).middleRows(first, count) * view(b).transpose();
  });
}

void add_scaled_gram(const DoubleMatrix& a, double factor, DoubleMatrix& c, Threads& threads) {
  check(c.rows == a.columns && c.columns == a.columns, "add_scaled_gram");
  for_rows(c.rows, threads, [&](int64_t first, int64_t count) {
    view(c).middleRows(first, count).noalias() +=
        factor * (view(a).middleCols(first, count).transpose() * view(a));
  });
}

namespace {

DoubleMatrix stored(const Eigen::Ref<const Columns>& m) {
  DoubleMatrix out(m.rows(), m.cols());
  view(out) = m;
  return out;
}

// Turns two columns into each other.
void turn(Eigen::Ref<Vector> x, Eigen::Ref<Vector> y, double cosine, double sine) {
  for (int64_t i = 0; i < x.size(); ++i) {
    const double old = x[i];
    x[i] = cosine * old - sine * y[i];
    y[i] = sine * old + cosine * y[i];
  }
}

// Turns pairs of columns until all are orthogonal, those up to `least` long aside (Hestenes'
// one-sided Jacobi method). They are nearly so before, so few pairs need it.
void make_orthogonal(Columns& b, double least) {
  constexpr double kOrthogonal = 1e-14;
  for (int sweep = 0; sweep < 30; ++sweep) {
    const Columns products = b.transpose() * b;
    const Vector lengths = products.diagonal().cwiseSqrt();
    bool turned = false;
    for (int64_t p = 0; p < b.cols(); ++p) {
      for (int64_t q = p + 1; q < b.cols(); ++q) {
        if (lengths[p] <= least || lengths[q] <= least) continue;
        if (std::abs(products(p, q)) <= kOrthogonal * lengths[p] * lengths[q]) continue;
        const double pp = b.col(p).squaredNorm(), qq = b.col(q).squaredNorm();
        const double pq = b.col(p).dot(b.col(q));
        if (std::abs(pq) <= kOrthogonal * std::sqrt(pp * qq)) continue;
        const double tau = (qq - pp) / (2 * pq);
        const double t = (tau >= 0 ? 1 : -1) / (std::abs(tau) + std::sqrt(1 + tau * tau));
        const double cosine = 1 / std::sqrt(1 + t * t);
        turn(b.col(p), b.col(q), cosine, cosine * t);
        turned = true;
      }
    }
    if (!turned) return;
  }
}

// Of a matrix with no fewer rows than columns. The eigenvectors of a^T a are exact only as far as
// squares of singular values are; a times them is made orthogonal, which is exact for all that
// count. (Eigen 3.4's BDCSVD fails where singular values are equal, and its JacobiSVD takes hours.)
SingularVectors decompose_tall(const Columns& a) {
  const Eigen::SelfAdjointEigenSolver<Columns> solver(a.transpose() * a);
  if (solver.info() != Eigen::Success) throw failed_error("singular_vectors: no convergence");
  Columns b = a * solver.eigenvectors();
  const double cut = static_cast<double>(a.rows()) * 0x1p-24;
  make_orthogonal(b, cut / 2 * b.colwise().norm().maxCoeff());

  const Vector lengths = b.colwise().norm();
  const double largest = lengths.maxCoeff();
  std::vector<int64_t> order;
  for (int64_t c = 0; c < b.cols(); ++c) {
    if (lengths[c] > cut * largest) order.push_back(c);
  }
  std::ranges::stable_sort(order, std::greater(), [&](int64_t c) { return lengths[c]; });
  Columns u(a.rows(), static_cast<int64_t>(order.size()));
  SingularVectors out;
  for (size_t k = 0; k < order.size(); ++k) {
    u.col(static_cast<int64_t>(k)) = b.col(order[k]) / lengths[order[k]];
    out.values.push_back(lengths[order[k]]);
  }
  Columns v = a.transpose() * u;
  for (int64_t k = 0; k < v.cols(); ++k) v.col(k) /= v.col(k).norm();
  out.u = stored(u);
  out.v = stored(v);
  return out;
}

SingularVectors decompose(const DoubleMatrix& a) {
  const double largest = a.values.empty() ? 0 : view(a).cwiseAbs().maxCoeff();
  if (largest == 0) return {DoubleMatrix(a.rows, 0), DoubleMatrix(a.columns, 0), {}};
  const bool wide = a.columns > a.rows;
  Columns tall = wide ? Columns(view(a).transpose()) : Columns(view(a));
  tall /= largest;  // squares of very small numbers would vanish
  SingularVectors parts = decompose_tall(tall);
  for (double& value : parts.values) value *= largest;
  if (wide) std::swap(parts.u, parts.v);
  return parts;
}

}  // namespace

std::vector<SingularVectors> singular_vectors(std::span<const DoubleMatrix> matrices,
                                              Threads& threads) {
  fix_order_of_sums();
  std::vector<SingularVectors> all(matrices.size());
  threads.run(matrices.size(), [&](size_t m) { all[m] = decompose(matrices[m]); });
  return all;
}

DoubleMatrix orthogonal_factor(const DoubleMatrix& a, Threads& threads) {
  const SingularVectors parts = std::move(singular_vectors({&a, 1}, threads)[0]);
  DoubleMatrix factor(a.rows, a.columns);
  add_product_transposed(parts.u, parts.v, factor, threads);
  return factor;
}

namespace {

// Lanczos' method for a^T a: an orthonormal basis of the space that a^T a spans of a first vector,
// in which it is tridiagonal.
class Lanczos {
 public:
  Lanczos(const DoubleMatrix& a, Threads& threads) : a_(a), threads_(threads) {}

  // The eigenvector of the largest eigenvalue.
  Vector leading() {
    Vector next = first();
    for (int64_t step = 0; step < std::min<int64_t>(a_.columns, kSteps); ++step) {
      basis_.push_back(next / next.norm());
      next = remainder();
      const double length = next.norm();
      solve();
      if (length * std::abs(last()) <= kResidual * value_) break;
      beside_.push_back(length);
    }
    Vector v = Vector::Zero(a_.columns);
    for (size_t j = 0; j < basis_.size(); ++j) v += weights_[static_cast<int64_t>(j)] * basis_[j];
    return v / v.norm();
  }

  // a v.
  Vector times(const Vector& v) const {
    Vector u(a_.rows);
    for_rows(a_.rows, threads_, [&](int64_t first, int64_t count) {
      u.segment(first, count).noalias() = view(a_).middleRows(first, count) * v;
    });
    return u;
  }

 private:
  static constexpr int64_t kSteps = 400;
  static constexpr double kResidual = 1e-13;

  // A vector with a part of every direction. That is likely: its numbers are random, the same each
  // time.
  Vector first() const {
    std::mt19937_64 random(1);
    Vector v(a_.columns);
    for (double& x : v) x = static_cast<double>(random() >> 11) * 0x1p-53 - 0.5;
    return v;
  }

  // a^T a times the last vector of the basis, without its parts along the basis.
  Vector remainder() {
    const Vector u = times(basis_.back());
    Vector w(a_.columns);
    for_rows(a_.columns, threads_, [&](int64_t begin, int64_t count) {
      w.segment(begin, count).noalias() = view(a_).middleCols(begin, count).transpose() * u;
    });
    diagonal_.push_back(w.dot(basis_.back()));
    for (int pass = 0; pass < 2; ++pass) {
      for (const Vector& b : basis_) w -= w.dot(b) * b;
    }
    return w;
  }

  // The largest eigenvalue of the tridiagonal matrix, and its eigenvector.
  void solve() {
    const auto n = static_cast<int64_t>(diagonal_.size());
    const Vector diagonal = Eigen::Map<const Vector>(diagonal_.data(), n);
    const Vector beside = Eigen::Map<const Vector>(beside_.data(), n - 1);
    Eigen::SelfAdjointEigenSolver<Columns> solver;
    solver.computeFromTridiagonal(diagonal, beside);
    value_ = solver.eigenvalues()[n - 1];
    weights_ = solver.eigenvectors().col(n - 1);
  }
  double last() const { return weights_[weights_.size() - 1]; }

  const DoubleMatrix& a_;
  Threads& threads_;
  std::vector<Vector> basis_;
  std::vector<double> diagonal_, beside_;  // of the tridiagonal matrix
  double value_ = 0;
  Vector weights_;
};

}  // namespace

SingularTriple leading_singular_vectors(const DoubleMatrix& a, Threads& threads) {
  SingularTriple triple{0, std::vector<double>(static_cast<size_t>(a.rows)),
                        std::vector<double>(static_cast<size_t>(a.columns))};
  const double largest = a.values.empty() ? 0 : view(a).cwiseAbs().maxCoeff();
  if (largest == 0) return triple;
  DoubleMatrix scaled = a;  // squares of very small numbers would vanish
  view(scaled) /= largest;
  Lanczos lanczos(scaled, threads);
  const Vector v = lanczos.leading();
  const Vector u = lanczos.times(v);
  triple.value = u.norm() * largest;
  std::ranges::copy(Vector(u / u.norm()), triple.u.begin());
  std::ranges::copy(v, triple.v.begin());
  return triple;
}

bool divide_by_symmetric(DoubleMatrix& a, DoubleMatrix& b, Threads& threads) {
  check(a.rows == a.columns && b.columns == a.columns, "divide_by_symmetric");
  fix_order_of_sums();
  View values = view(a);
  const Eigen::LLT<Eigen::Ref<Values>> factor(values);
  if (factor.info() != Eigen::Success) return false;
  for_rows(b.rows, threads, [&](int64_t first, int64_t count) {
    auto rows = view(b).middleRows(first, count);
    Columns solved = rows.transpose();
    factor.solveInPlace(solved);
    rows = solved.transpose();
  });
  return true;
}

}  // namespace lewis
