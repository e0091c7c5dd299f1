#include "refine/router_solver.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"

namespace lewis {
namespace {

constexpr double kUndamped = 0.9, kEnough = 1e-6;
constexpr int kMostSteps = 1'000;
constexpr int64_t kRows = 2048;  // that are worked on together

double dot(std::span<const double> a, std::span<const double> b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

// p = softmax or sigmoid of the scores of one row.
void probabilities(RouterMetric metric, std::span<const float> scores, std::span<double> p) {
  if (metric == RouterMetric::kSigmoid) {
    std::ranges::transform(scores, p.begin(), [](float s) { return 1 / (1 + std::exp(-s)); });
    return;
  }
  const double most = *std::ranges::max_element(scores);
  std::ranges::transform(scores, p.begin(), [&](float s) { return std::exp(s - most); });
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) value /= sum;
}

// log p, where p itself may be 0.
void log_probabilities(std::span<const float> scores, std::span<double> logs) {
  const double most = *std::ranges::max_element(scores);
  double sum = 0;
  for (const float s : scores) sum += std::exp(s - most);
  std::ranges::transform(scores, logs.begin(), [&](float s) { return s - most - std::log(sum); });
}

// log(1 + e^x) without overflow.
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

// Divergence of two distributions, or of one pair of them per expert.
double divergence(RouterMetric metric, std::span<const float> wanted,
                  std::span<const float> scores) {
  std::vector<double> p(wanted.size()), logs(wanted.size()), others(wanted.size());
  probabilities(metric, wanted, p);
  double sum = 0;
  if (metric == RouterMetric::kSigmoid) {
    for (size_t e = 0; e < p.size(); ++e) {
      sum += p[e] * (softplus(-scores[e]) - softplus(-wanted[e])) +
             (1 - p[e]) * (softplus(scores[e]) - softplus(wanted[e]));
    }
    return sum;
  }
  log_probabilities(wanted, logs);
  log_probabilities(scores, others);
  for (size_t e = 0; e < p.size(); ++e) sum += p[e] * (logs[e] - others[e]);
  return sum;
}

// The left side: products with H, which is never there.
class RouterSystem {
 public:
  RouterSystem(RouterMetric metric, double ridge, const FloatMatrix& x,
               std::span<const float> weights, const Matrix& wanted, Threads& threads)
      : metric_(metric),
        x_(x),
        weights_(weights),
        experts_(wanted.columns),
        p_(static_cast<size_t>(x.rows * wanted.columns)),
        threads_(threads) {
    for_rows(x.rows, threads, [&](int64_t row, int64_t end) {
      for (; row < end; ++row)
        probabilities(metric, {wanted.row(row), static_cast<size_t>(experts_)}, row_of(row));
    });
    find_diagonal();
    rho_ = ridge * std::accumulate(diagonal_.begin(), diagonal_.end(), 0.0) /
           static_cast<double>(diagonal_.size());
  }

  std::vector<double> solve(const Matrix& wanted, const Matrix& scores) {
    std::vector<double> left = right_side(wanted, scores);  // of the right side, to be explained
    std::vector<double> d(left.size()), ahead = scaled(left), direction = ahead;
    const double enough = kEnough * std::sqrt(dot(left, left));
    double now = dot(left, ahead);
    for (int step = 0; step < kMostSteps && std::sqrt(dot(left, left)) > enough; ++step) {
      const std::vector<double> moved = apply(direction);
      const double curvature = dot(direction, moved);
      if (!(curvature > 0)) break;
      const double length = now / curvature;
      for (size_t i = 0; i < d.size(); ++i) {
        d[i] += length * direction[i];
        left[i] -= length * moved[i];
      }
      ahead = scaled(left);
      const double next = dot(left, ahead);
      for (size_t i = 0; i < d.size(); ++i) direction[i] = ahead[i] + next / now * direction[i];
      now = next;
    }
    return d;
  }

 private:
  std::span<double> row_of(int64_t row) {
    return {p_.data() + row * experts_, static_cast<size_t>(experts_)};
  }

  // f(first row, rows) over all rows, in order.
  template <typename F>
  void for_pieces(const F& f) {
    for (int64_t first = 0; first < x_.rows; first += kRows)
      f(first, std::min(kRows, x_.rows - first));
  }

  // sum += v^T x for rows from `first` on.
  void add_to(std::span<double> sum, const std::vector<float>& v, int64_t first, int64_t rows) {
    add_products({v.data(), rows, experts_, experts_}, rows_from(first, rows), {}, sum, threads_);
  }
  FloatMatrix rows_from(int64_t first, int64_t rows) const {
    return {x_.data + first * x_.stride, rows, x_.columns, x_.stride};
  }

  // v = w_t S_t u_t for rows from `first` on; u and v: [rows, experts].
  void weigh(int64_t first, int64_t rows, std::span<const double> u, std::vector<float>& v) {
    v.resize(u.size());
    for_rows(rows, threads_, [&](int64_t row, int64_t end) {
      for (; row < end; ++row) {
        const std::span<const double> p = row_of(first + row);
        const auto at = static_cast<size_t>(row * experts_);
        const std::span<const double> its = u.subspan(at, p.size());
        const double mean = metric_ == RouterMetric::kSoftmax ? dot(p, its) : 0;
        const double w = weights_[static_cast<size_t>(first + row)];
        for (size_t e = 0; e < p.size(); ++e) {
          const double own = metric_ == RouterMetric::kSoftmax ? 1 : 1 - p[e];
          v[at + e] = static_cast<float>(w * p[e] * (own * its[e] - mean));
        }
      }
    });
  }

  // H's: sum_t w_t p (1 - p) x^2, with both metrics.
  void find_diagonal() {
    diagonal_.resize(static_cast<size_t>(experts_ * x_.columns));
    std::vector<float> v, squares;
    for_pieces([&](int64_t first, int64_t rows) {
      v.resize(static_cast<size_t>(rows * experts_));
      squares.resize(static_cast<size_t>(rows * x_.columns));
      for_rows(rows, threads_, [&](int64_t row, int64_t end) {
        for (; row < end; ++row) {
          const std::span<const double> p = row_of(first + row);
          const double w = weights_[static_cast<size_t>(first + row)];
          for (size_t e = 0; e < p.size(); ++e)
            v[static_cast<size_t>(row * experts_) + e] = static_cast<float>(w * p[e] * (1 - p[e]));
          const float* from = x_.data + (first + row) * x_.stride;
          std::transform(from, from + x_.columns, squares.begin() + row * x_.columns,
                         [](float value) { return value * value; });
        }
      });
      add_products({v.data(), rows, experts_, experts_},
                   {squares.data(), rows, x_.columns, x_.columns}, {}, diagonal_, threads_);
    });
  }

  std::vector<double> right_side(const Matrix& wanted, const Matrix& scores) {
    std::vector<double> right(diagonal_.size()), u;
    std::vector<float> v;
    for_pieces([&](int64_t first, int64_t rows) {
      const float *to = wanted.row(first), *from = scores.row(first);
      u.resize(static_cast<size_t>(rows * experts_));
      for (size_t i = 0; i < u.size(); ++i) u[i] = static_cast<double>(to[i]) - from[i];
      weigh(first, rows, u, v);
      add_to(right, v, first, rows);
    });
    return right;
  }

  // The damped matrix times d.
  std::vector<double> apply(std::span<const double> d) {
    const std::vector<float> floats(d.begin(), d.end());
    std::vector<double> product(d.size()), u;
    std::vector<float> v;
    for_pieces([&](int64_t first, int64_t rows) {
      u.resize(static_cast<size_t>(rows * experts_));
      row_products(rows_from(first, rows), {floats.data(), experts_, x_.columns, x_.columns}, u,
                   threads_);
      weigh(first, rows, u, v);
      add_to(product, v, first, rows);
    });
    for (size_t i = 0; i < d.size(); ++i)
      product[i] = kUndamped * product[i] + ((1 - kUndamped) * diagonal_[i] + rho_) * d[i];
    return product;
  }

  // Divided by the matrix's diagonal, which makes the steps few. Where it is 0 nothing depends on
  // d.
  std::vector<double> scaled(std::span<const double> values) const {
    std::vector<double> result(values.size());
    for (size_t i = 0; i < result.size(); ++i)
      result[i] = diagonal_[i] + rho_ > 0 ? values[i] / (diagonal_[i] + rho_) : 0;
    return result;
  }

  RouterMetric metric_;
  FloatMatrix x_;
  std::span<const float> weights_;
  int64_t experts_;
  std::vector<double> p_;         // [rows, experts]
  std::vector<double> diagonal_;  // of H: [experts, in]
  double rho_ = 0;
  Threads& threads_;
};

// The layer's rows plus `change`, as the tensor stores them.
std::vector<std::byte> changed_rows(const TensorSource& source, const LinearLayer& l,
                                    std::span<const double> change) {
  const TensorInfo& info = source.get(l.tensor);
  const size_t size = dtype_size(info.dtype);
  std::vector<std::byte> stored(change.size() * size);
  source.read(info, static_cast<uint64_t>(l.first_row * l.in) * size, stored);
  std::vector<float> weights(change.size());
  widen(info.dtype, stored.data(), weights);
  for (size_t i = 0; i < weights.size(); ++i)
    weights[i] = static_cast<float>(static_cast<double>(weights[i]) + change[i]);
  if (!all_finite(weights))
    throw input_error("{}: refinement gives values that are not finite", l.name);
  narrow(weights, info.dtype, stored.data());
  return stored;
}

}  // namespace

RouterMetric metric_of(Router router) {
  return router == Router::kSigmoid ? RouterMetric::kSigmoid : RouterMetric::kSoftmax;
}

std::vector<double> solve_router(RouterMetric metric, double ridge, const FloatMatrix& x,
                                 std::span<const float> weights, const Matrix& wanted,
                                 const Matrix& scores, Threads& threads) {
  return RouterSystem(metric, ridge, x, weights, wanted, threads).solve(wanted, scores);
}

double router_divergence(RouterMetric metric, const Matrix& wanted, const Matrix& scores,
                         std::span<const float> weights, int64_t first, int64_t end) {
  const auto width = static_cast<size_t>(wanted.columns);
  double sum = 0;
  for (int64_t row = first; row < end; ++row) {
    const double w = weights[static_cast<size_t>(row)];
    if (w > 0) sum += w * divergence(metric, {wanted.row(row), width}, {scores.row(row), width});
  }
  return sum;
}

Matrix refine_router(LayerSolver& solver, const RefineModels& models, const TextRows& text,
                     const RefineSettings& settings, const RefinedLayer& router, const Matrix& x,
                     const Matrix& wanted, Matrix scores) {
  const LinearLayer& l = router.merged;
  if (!settings.routers || !solver.is(RefineMethod::kRegression)) return scores;
  const RouterMetric metric = metric_of(models.prior.spec().experts.router);
  Threads& threads = models.prior.threads();
  const std::vector<double> change =
      solve_router(metric, settings.ridge.value_or(kDefaultRidge), x.first_rows(text.fit_rows),
                   text.weights, wanted, scores, threads);
  const TensorInfo& info = models.prior.source().get(l.tensor);
  const std::vector<std::byte> stored = changed_rows(models.prior.source(), l, change);
  Backend& backend = models.prior.backend();
  const std::vector<float> bias =
      l.bias.empty() ? std::vector<float>()
                     : models.prior.source().read_floats(models.prior.source().get(l.bias));
  Matrix refined(x.rows, scores.columns);
  backend.linear(*backend.pack(info.dtype, stored.data(), l.out, l.in), bias, x.row(0), x.rows,
                 refined.row(0));
  const auto diverges = [&](const Matrix& its) {
    return router_divergence(metric, wanted, its, text.weights, text.fit_rows, text.rows);
  };
  if (text.held_rows() > 0 && !(diverges(refined) < diverges(scores))) {
    solver.note(
        "the router is left as merged: on held-out text the solved one is no nearer to the "
        "experts' choices");
    return scores;
  }
  std::ranges::copy(stored, solver.refined_rows(l.tensor, l.first_row, l.out, l.in).begin());
  return refined;
}

}  // namespace lewis
