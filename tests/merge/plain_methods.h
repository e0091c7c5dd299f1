// The merge methods once more, as plainly as their definitions read: whole vectors, double
// precision, sorting. What the program is tested against.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "tensors.h"

namespace lewis {

using Vector = std::vector<double>;

// Vectors.

inline double dot(const Vector& a, const Vector& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}
inline double norm(const Vector& a) { return std::sqrt(dot(a, a)); }
inline Vector sum_of(double x, const Vector& a, double y, const Vector& b) {
  Vector c(a.size());
  for (size_t i = 0; i < a.size(); ++i) c[i] = x * a[i] + y * b[i];
  return c;
}
inline Vector times(double x, const Vector& a) { return sum_of(x, a, 0, a); }
inline double plain_cosine(const Vector& a, const Vector& b) {
  const double lengths = norm(a) * norm(b);
  return lengths > 0 ? std::clamp(dot(a, b) / lengths, -1.0, 1.0) : 0.0;
}
inline Vector as_double(const std::vector<float>& x) { return {x.begin(), x.end()}; }

// delta as the program has it: a float.
inline Vector plain_delta(const TestTensor& t, size_t m) {
  Vector d(t.base.size());
  for (size_t i = 0; i < d.size(); ++i) d[i] = t.models[m][i] - t.base[i];
  return d;
}
inline std::vector<Vector> plain_deltas(const TestTensor& t) {
  std::vector<Vector> deltas;
  for (size_t m = 0; m < t.models.size(); ++m) deltas.push_back(plain_delta(t, m));
  return deltas;
}

// Largest first, of equal ones the lower index.
inline std::vector<size_t> order_by_magnitude(const Vector& v) {
  std::vector<size_t> order(v.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return std::abs(v[a]) > std::abs(v[b]); });
  return order;
}

// Sparsifiers: the task vector with what is dropped set to 0.

// The int(density * n) largest behind the int(gamma * n) very largest.
inline Vector keep_largest(const Vector& d, double density, double gamma) {
  const auto n = static_cast<double>(d.size());
  const auto target = static_cast<size_t>(density * n);
  const size_t top = std::min(static_cast<size_t>(gamma * n), d.size() - target);
  const auto order = order_by_magnitude(d);
  Vector kept(d.size());
  for (size_t r = top; r < top + target; ++r) kept[order[r]] = d[order[r]];
  return kept;
}

inline Vector keep_random(const Vector& d, const ModelParameters& m) {
  Vector kept = d;
  for (size_t i = 0; i < d.size(); ++i) {
    if (m.random.element(i) >= m["density"] * 0x1p32) kept[i] = 0;
  }
  return kept;
}

// With a probability by the rank in the row; rank 0 is the smallest, of equal ones the first.
inline Vector keep_by_rank(const Vector& d, const TensorTask& task, const ModelParameters& m) {
  const auto columns = static_cast<size_t>(task.columns());
  Vector kept = d;
  std::vector<size_t> order(columns);
  for (size_t first = 0; first < d.size(); first += columns) {
    std::iota(order.begin(), order.end(), first);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return std::abs(d[a]) < std::abs(d[b]); });
    for (size_t rank = 0; rank < columns; ++rank) {
      const double place =
          columns > 1 ? static_cast<double>(rank) / static_cast<double>(columns - 1) : 0.5;
      const double p = m["density"] - m["epsilon"] + 2 * m["epsilon"] * place;
      if (m.random.element(order[rank]) >= p * 0x1p32) kept[order[rank]] = 0;
    }
  }
  return kept;
}

// Generalised task arithmetic.

enum class PlainKeep { kAll, kLargest, kMiddle, kRandom, kRanked };
struct PlainStyle {
  PlainKeep keep = PlainKeep::kAll;
  bool elect = false, normalize = false, rescale = false;
};

inline Vector plain_sparsify(PlainKeep keep, const Vector& d, const TensorTask& task,
                             const ModelParameters& m) {
  if (keep == PlainKeep::kAll || (m["density"] >= 1 && keep != PlainKeep::kMiddle)) return d;
  if (keep == PlainKeep::kLargest) return keep_largest(d, m["density"], 0);
  if (keep == PlainKeep::kMiddle) return keep_largest(d, m["density"], m["gamma"]);
  return keep == PlainKeep::kRandom ? keep_random(d, m) : keep_by_rank(d, task, m);
}

inline double sum_of_magnitudes(const Vector& v) {
  return std::accumulate(v.begin(), v.end(), 0.0,
                         [](double sum, double x) { return sum + std::abs(x); });
}

// sparse: the sparsified task vectors; factors: their weights, rescaled.
inline Vector plain_combine(const TestTensor& t, const std::vector<Vector>& sparse,
                            const Vector& factors, bool elect, bool normalize) {
  double weights = 0;
  for (const ModelParameters& m : t.task.models) weights += m["weight"];
  Vector out(t.base.size());
  for (size_t i = 0; i < out.size(); ++i) {
    double sum = 0, mixed = 0, divisor = 0;
    for (size_t m = 0; m < sparse.size(); ++m) sum += factors[m] * sparse[m][i];
    for (size_t m = 0; m < sparse.size(); ++m) {
      const double v = factors[m] * sparse[m][i];
      if (elect && !(sum >= 0 ? v > 0 : v < 0)) continue;
      mixed += v;
      divisor += t.task.models[m]["weight"];
    }
    if (!elect) divisor = weights;
    if (normalize) mixed /= std::abs(divisor) < 1e-8 ? 1 : divisor;
    out[i] = t.base[i] + t.task["lambda"] * mixed;
  }
  return out;
}

inline Vector plain_gta(const TestTensor& t, PlainStyle style) {
  if (t.task.find("normalize")) style.normalize = t.task["normalize"] != 0;
  if (t.task.find("rescale")) style.rescale = t.task["rescale"] != 0;
  std::vector<Vector> sparse;
  Vector factors;
  for (size_t m = 0; m < t.models.size(); ++m) {
    const Vector d = plain_delta(t, m);
    sparse.push_back(plain_sparsify(style.keep, d, t.task, t.task.models[m]));
    factors.push_back(t.task.models[m]["weight"]);
    const double kept = sum_of_magnitudes(sparse[m]);
    if (style.rescale && kept > 0) factors[m] *= sum_of_magnitudes(d) / kept;
  }
  return plain_combine(t, sparse, factors, style.elect, style.normalize);
}

// Methods that go element by element.

inline Vector plain_linear(const TestTensor& t) {
  Vector out(t.base.size());
  double weights = 0;
  for (size_t m = 0; m < t.models.size(); ++m) {
    out = sum_of(1, out, t.task.models[m]["weight"], as_double(t.models[m]));
    weights += t.task.models[m]["weight"];
  }
  return t.task.find("normalize").value_or(1) != 0 ? times(1 / weights, out) : out;
}

inline Vector plain_nearswap(const TestTensor& t) {
  Vector out(t.base.size());
  for (size_t i = 0; i < out.size(); ++i) {
    const double model = t.models[0][i], base = t.base[i];
    const double share = std::clamp(t.task["t"] / std::max(std::abs(model - base), 1e-6), 0.0, 1.0);
    out[i] = share * model + (1 - share) * base;
  }
  return out;
}

inline Vector plain_ram(const TestTensor& t, bool plus) {
  const auto d = plain_deltas(t);
  const auto epsilon =
      static_cast<double>(static_cast<float>(t.task.find("epsilon").value_or(1e-5)));
  const auto changes = [&](size_t m, size_t i) { return std::abs(d[m][i]) > epsilon; };
  std::vector<int> changed(t.base.size());
  for (size_t m = 0; m < d.size(); ++m) {
    for (size_t i = 0; i < changed.size(); ++i) changed[i] += changes(m, i);
  }
  Vector out = as_double(t.base);
  for (size_t m = 0; m < d.size(); ++m) {
    double own = 0, shared = 0;
    for (size_t i = 0; i < changed.size(); ++i) {
      if (changes(m, i)) ++(changed[i] > 1 ? shared : own);
    }
    const double factor = plus && own > 0
                              ? 1 + t.task.find("r").value_or(0.1) *
                                        std::min(t.task.find("alpha").value_or(0.2), shared / own)
                              : 1;
    for (size_t i = 0; i < out.size(); ++i) {
      if (changes(m, i)) out[i] += changed[i] == 1 ? factor * d[m][i] : d[m][i] / changed[i];
    }
  }
  return out;
}

// Population variance, as a float: that is what is ranked.
inline Vector plain_variance(const std::vector<Vector>& d) {
  const auto n = static_cast<double>(d.size());
  Vector variance(d[0].size());
  for (size_t i = 0; i < variance.size(); ++i) {
    double mean = 0;
    for (const Vector& v : d) mean += v[i] / n;
    for (const Vector& v : d) variance[i] += (v[i] - mean) * (v[i] - mean) / n;
    variance[i] = static_cast<float>(variance[i]);
  }
  return variance;
}

inline Vector plain_sce(const TestTensor& t) {
  auto d = plain_deltas(t);
  const double share = t.task.find("select_topk").value_or(1);
  if (share < 1) {
    const Vector variance = plain_variance(d);
    const auto differing =
        std::count_if(variance.begin(), variance.end(), [](double v) { return v != 0; });
    const auto order = order_by_magnitude(variance);
    const auto kept = static_cast<size_t>(static_cast<double>(differing) * share);
    for (size_t r = kept; r < order.size(); ++r) {
      for (Vector& v : d) v[order[r]] = 0;
    }
  }
  Vector weights;
  for (const Vector& v : d) weights.push_back(dot(v, v));
  const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& w : weights) w = all > 0 ? w / all : 1 / static_cast<double>(d.size());
  Vector out = as_double(t.base);
  for (size_t i = 0; i < out.size(); ++i) {
    double sum = 0, mixed = 0, divisor = 0;
    for (const Vector& v : d) sum += v[i];
    for (size_t m = 0; m < d.size(); ++m) {
      if (d[m][i] * (sum >= 0 ? 1 : -1) <= 0) continue;
      mixed += d[m][i] * weights[m];
      divisor += weights[m];
    }
    out[i] += mixed / std::max(divisor, 1e-6);
  }
  return out;
}

// Methods of whole vectors: f(vectors of the models, vector of the base) -> vector.

using VectorMethod = std::function<Vector(const std::vector<Vector>& models, const Vector& base)>;

// For groups of elements, each of which is one vector.
inline Vector by_groups(const TestTensor& t, const std::vector<std::vector<size_t>>& groups,
                        const VectorMethod& f) {
  Vector out(t.base.size());
  for (const auto& group : groups) {
    const auto take = [&](const std::vector<float>& x) {
      Vector v;
      for (const size_t i : group) v.push_back(x[i]);
      return v;
    };
    std::vector<Vector> models;
    for (const auto& m : t.models) models.push_back(take(m));
    const Vector result = f(models, take(t.base));
    for (size_t i = 0; i < group.size(); ++i) out[group[i]] = result[i];
  }
  return out;
}

inline std::vector<std::vector<size_t>> whole_tensor(const TestTensor& t) {
  std::vector<std::vector<size_t>> groups(1, std::vector<size_t>(t.base.size()));
  std::iota(groups[0].begin(), groups[0].end(), size_t{0});
  return groups;
}
// The rows: vectors along the last dimension.
inline std::vector<std::vector<size_t>> rows_of(const TestTensor& t) {
  const auto columns = static_cast<size_t>(t.task.columns());
  std::vector<std::vector<size_t>> groups(t.base.size() / columns);
  for (size_t i = 0; i < t.base.size(); ++i) groups[i / columns].push_back(i);
  return groups;
}
// The columns: vectors along the first dimension.
inline std::vector<std::vector<size_t>> columns_of(const TestTensor& t) {
  const size_t columns = t.base.size() / static_cast<size_t>(t.task.shape[0]);
  std::vector<std::vector<size_t>> groups(columns);
  for (size_t i = 0; i < t.base.size(); ++i) groups[i % columns].push_back(i);
  return groups;
}

// f of the task vectors, added to the base.
inline VectorMethod of_deltas(const VectorMethod& f) {
  return [f](const std::vector<Vector>& models, const Vector& base) {
    std::vector<Vector> deltas;
    for (const Vector& m : models) deltas.push_back(sum_of(1, m, -1, base));
    return sum_of(1, base, 1, f(deltas, base));
  };
}

// line_from: the cosine from which on the arc is a straight line.
inline Vector plain_slerp(double t, const Vector& a, const Vector& b, double line_from) {
  const double cosine = plain_cosine(a, b), angle = std::acos(cosine);
  if (std::abs(cosine) > line_from || std::sin(angle) < 1e-8) return sum_of(1 - t, a, t, b);
  return sum_of(std::sin((1 - t) * angle) / std::sin(angle), a,
                std::sin(t * angle) / std::sin(angle), b);
}

inline Vector plain_nuslerp(const TestTensor& t, bool with_base) {
  const double w0 = t.task.models[0]["weight"], w1 = t.task.models[1]["weight"];
  const VectorMethod arc = [&](const std::vector<Vector>& m, const Vector&) {
    return plain_slerp(w1 / (w0 + w1), m[0], m[1], 2);
  };
  const bool flat = t.task.find("nuslerp_flatten").value_or(1) != 0 || t.task.shape.size() < 2;
  const bool along_first = t.task.find("nuslerp_row_wise").value_or(0) != 0;
  return by_groups(t,
                   flat          ? whole_tensor(t)
                   : along_first ? columns_of(t)
                                 : rows_of(t),
                   with_base ? of_deltas(arc) : arc);
}

inline Vector plain_multislerp(const std::vector<Vector>& x, Vector weights) {
  const double eps = 1e-8, all = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& w : weights) w /= all;
  std::vector<Vector> unit;
  Vector mean(x[0].size()), line(x[0].size());
  double lengths = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    unit.push_back(times(1 / (norm(x[i]) + eps), x[i]));
    mean = sum_of(1, mean, weights[i], unit[i]);
    line = sum_of(1, line, weights[i], x[i]);
    lengths += weights[i] * norm(x[i]);
  }
  if (norm(mean) < eps) return line;
  mean = times(1 / norm(mean), mean);
  Vector tangent(mean.size());
  for (size_t i = 0; i < x.size(); ++i) {
    tangent = sum_of(1, tangent, weights[i], sum_of(1, unit[i], -dot(unit[i], mean), mean));
  }
  const double r = norm(tangent) + eps;
  return times(lengths, sum_of(std::cos(r), mean, std::sin(r) / r, tangent));
}

inline Vector plain_karcher(const std::vector<Vector>& all) {
  std::vector<Vector> x;  // those that are not zero
  double lengths = 0;
  for (const Vector& v : all) {
    if (norm(v) > 0) x.push_back(v);
    lengths += norm(v) / static_cast<double>(all.size());
  }
  Vector u(all[0].size());
  if (x.empty()) return u;
  const auto n = static_cast<double>(x.size());
  for (const Vector& v : x) u = sum_of(1, u, 1 / norm(v) / n, v);
  u = times(1 / norm(u), u);
  for (int step = 0; step < 10; ++step) {
    Vector tangent(u.size());
    for (const Vector& v : x) {
      const double cosine = std::clamp(dot(u, v) / norm(v), -1.0, 1.0), angle = std::acos(cosine);
      if (angle < 1e-5) continue;
      tangent = sum_of(1, tangent, angle / std::sin(angle) / n, sum_of(1 / norm(v), v, -cosine, u));
    }
    const double length = norm(tangent);
    if (length < 1e-5) break;
    u = sum_of(std::cos(length), u, std::sin(length) / length, tangent);
    u = times(1 / norm(u), u);
  }
  return times(lengths, u);
}

// 1 + (N - 1) cos, by which t is divided.
inline double stock_divisor(const std::vector<Vector>& deltas, double& cosine) {
  const auto n = static_cast<double>(deltas.size());
  cosine = 0;
  for (size_t i = 0; i < deltas.size(); ++i) {
    for (size_t j = i + 1; j < deltas.size(); ++j) {
      cosine += plain_cosine(deltas[i], deltas[j]) / (n * (n - 1) / 2);
    }
  }
  return 1 + (n - 1) * cosine;
}
inline Vector plain_stock(const std::vector<Vector>& x, const Vector& base) {
  std::vector<Vector> deltas;
  Vector mean(base.size());
  const auto n = static_cast<double>(x.size());
  for (const Vector& v : x) {
    deltas.push_back(sum_of(1, v, -1, base));
    mean = sum_of(1, mean, 1 / n, v);
  }
  double cosine = 0;
  const double divisor = stock_divisor(deltas, cosine), t = n * cosine / divisor;
  return sum_of(t, mean, 1 - t, base);
}

// arcee_fusion's importance of each entry, and the threshold from which on it is taken over.
struct PlainImportance {
  Vector values;
  double threshold = 0;
};
inline PlainImportance plain_importance(const TestTensor& t) {
  PlainImportance result;
  const VectorMethod row = [](const std::vector<Vector>& m, const Vector& base) {
    double a = 0, b = 0, divergence = 0;
    for (size_t i = 0; i < base.size(); ++i) {
      a += std::exp(m[0][i]);
      b += std::exp(base[i]);
    }
    for (size_t i = 0; i < base.size(); ++i) {
      const double p = std::exp(m[0][i]) / a + 1e-8, q = std::exp(base[i]) / b + 1e-8;
      divergence += p * std::log(p / q);
    }
    Vector importance(base.size());
    for (size_t i = 0; i < base.size(); ++i)
      importance[i] = std::abs(m[0][i] - base[i]) * std::max(0.0, divergence);
    return importance;
  };
  result.values = by_groups(t, rows_of(t), row);
  Vector sorted = result.values;
  std::sort(sorted.begin(), sorted.end());
  const auto quantile = [&](double q) {
    return sorted[static_cast<size_t>(q * static_cast<double>(sorted.size() - 1))];
  };
  result.threshold = quantile(0.5) + 1.5 * (quantile(0.75) - quantile(0.25));
  return result;
}

// Matrices, row-major.

struct PlainMatrix {
  size_t rows = 0, columns = 0;
  Vector values;
  PlainMatrix(size_t r, size_t c) : rows(r), columns(c), values(r * c) {}
  double& at(size_t r, size_t c) { return values[r * columns + c]; }
  double at(size_t r, size_t c) const { return values[r * columns + c]; }
};
inline PlainMatrix transposed(const PlainMatrix& a) {
  PlainMatrix t(a.columns, a.rows);
  for (size_t r = 0; r < a.rows; ++r) {
    for (size_t c = 0; c < a.columns; ++c) t.at(c, r) = a.at(r, c);
  }
  return t;
}
// a^T b.
inline PlainMatrix product_of_columns(const PlainMatrix& a, const PlainMatrix& b) {
  PlainMatrix p(a.columns, b.columns);
  for (size_t r = 0; r < a.rows; ++r) {
    for (size_t i = 0; i < a.columns; ++i) {
      for (size_t j = 0; j < b.columns; ++j) p.at(i, j) += a.at(r, i) * b.at(r, j);
    }
  }
  return p;
}

// sum of s[k] u[k] v[k]^T, largest s first; s = 0 is left out, and what is 0 to the precision of
// floats.
struct PlainSvd {
  std::vector<Vector> u, v;
  Vector s;
};
// One-sided Jacobi: turns pairs of columns until all are orthogonal.
inline PlainSvd plain_svd(const PlainMatrix& matrix) {
  const bool wide = matrix.columns > matrix.rows;
  const PlainMatrix a = wide ? transposed(matrix) : matrix;
  std::vector<Vector> u(a.columns, Vector(a.rows)), v(a.columns, Vector(a.columns));
  for (size_t c = 0; c < a.columns; ++c) {
    v[c][c] = 1;
    for (size_t r = 0; r < a.rows; ++r) u[c][r] = a.at(r, c);
  }
  const auto turn = [](Vector& x, Vector& y, double cosine, double sine) {
    for (size_t i = 0; i < x.size(); ++i) {
      const double old = x[i];
      x[i] = cosine * old - sine * y[i];
      y[i] = sine * old + cosine * y[i];
    }
  };
  bool turned = true;
  for (int sweep = 0; turned && sweep < 60; ++sweep) {
    turned = false;
    for (size_t p = 0; p < u.size(); ++p) {
      for (size_t q = p + 1; q < u.size(); ++q) {
        const double pp = dot(u[p], u[p]), qq = dot(u[q], u[q]), pq = dot(u[p], u[q]);
        if (std::abs(pq) <= 1e-15 * std::sqrt(pp * qq)) continue;
        turned = true;
        const double tau = (qq - pp) / (2 * pq);
        const double t = (tau >= 0 ? 1 : -1) / (std::abs(tau) + std::sqrt(1 + tau * tau));
        const double cosine = 1 / std::sqrt(1 + t * t);
        turn(u[p], u[q], cosine, cosine * t);
        turn(v[p], v[q], cosine, cosine * t);
      }
    }
  }
  Vector lengths;
  for (const Vector& x : u) lengths.push_back(norm(x));
  PlainSvd svd;
  const double least = static_cast<double>(std::max(a.rows, a.columns)) * std::ldexp(1.0, -24);
  for (const size_t k : order_by_magnitude(lengths)) {
    if (lengths[k] <= least * *std::ranges::max_element(lengths)) continue;
    svd.s.push_back(lengths[k]);
    svd.u.push_back(wide ? v[k] : times(1 / lengths[k], u[k]));
    svd.v.push_back(wide ? times(1 / lengths[k], u[k]) : v[k]);
  }
  return svd;
}

// The nearest vectors to `columns` that are orthonormal, within their span.
inline std::vector<Vector> plain_orthonormal(const std::vector<Vector>& columns) {
  PlainMatrix a(columns[0].size(), columns.size());
  for (size_t c = 0; c < a.columns; ++c) {
    for (size_t r = 0; r < a.rows; ++r) a.at(r, c) = columns[c][r];
  }
  const PlainSvd svd = plain_svd(a);
  std::vector<Vector> out(columns.size(), Vector(a.rows));
  for (size_t k = 0; k < svd.s.size(); ++k) {
    for (size_t c = 0; c < out.size(); ++c) out[c] = sum_of(1, out[c], svd.v[k][c], svd.u[k]);
  }
  return out;
}

inline void add_outer(const Vector& u, const Vector& v, double factor, PlainMatrix& sum) {
  for (size_t r = 0; r < sum.rows; ++r) {
    for (size_t c = 0; c < sum.columns; ++c) sum.at(r, c) += factor * u[r] * v[c];
  }
}

inline PlainMatrix plain_iso_c(const std::vector<PlainMatrix>& tau) {
  PlainMatrix sum(tau[0].rows, tau[0].columns), out = sum;
  for (const PlainMatrix& t : tau) sum.values = sum_of(1, sum.values, 1, t.values);
  const PlainSvd svd = plain_svd(sum);
  double mean = 0;
  for (const double s : svd.s) mean += s / static_cast<double>(std::min(sum.rows, sum.columns));
  for (size_t k = 0; k < svd.s.size(); ++k) add_outer(svd.u[k], svd.v[k], mean, out);
  return out;
}

// `doubtful` becomes true where two singular values between which the method chooses are equal.
inline PlainMatrix plain_tsv_m(const std::vector<PlainMatrix>& tau, bool& doubtful) {
  std::vector<PlainSvd> parts;
  for (const PlainMatrix& t : tau) {
    if (norm(t.values) > 0) parts.push_back(plain_svd(t));
  }
  const size_t share = std::max<size_t>(1, std::min(tau[0].rows, tau[0].columns) / parts.size());
  std::vector<Vector> u, v;
  Vector s;
  for (const PlainSvd& p : parts) {
    for (size_t k = 0; k < std::min(share, p.s.size()); ++k) {
      u.push_back(p.u[k]);
      v.push_back(p.v[k]);
      s.push_back(p.s[k]);
    }
    if (share < p.s.size()) doubtful |= p.s[share] > (1 - 1e-5) * p.s[share - 1];
  }
  const std::vector<Vector> left = plain_orthonormal(u), right = plain_orthonormal(v);
  PlainMatrix out(tau[0].rows, tau[0].columns);
  for (size_t k = 0; k < s.size(); ++k) add_outer(left[k], right[k], s[k], out);
  return out;
}

// tau (sum A_k + rho I) = sum tau_k A_k + rho sum tau_k by Gauss' elimination with pivots.
inline PlainMatrix plain_wudi(const std::vector<PlainMatrix>& tau, double ridge) {
  const size_t n = tau[0].columns;
  PlainMatrix system(n, n), right(n, tau[0].rows);
  Vector sum(tau[0].values.size());
  for (const PlainMatrix& t : tau) {
    if (norm(t.values) == 0) continue;
    PlainMatrix a = product_of_columns(t, t);
    a.values = times(1 / dot(t.values, t.values), a.values);
    system.values = sum_of(1, system.values, 1, a.values);
    right.values = sum_of(1, right.values, 1, product_of_columns(a, transposed(t)).values);
    sum = sum_of(1, sum, 1, t.values);
  }
  double trace = 0;
  for (size_t i = 0; i < n; ++i) trace += system.at(i, i);
  const double rho = ridge * trace / static_cast<double>(n);
  for (size_t i = 0; i < n; ++i) {
    system.at(i, i) += rho;
    for (size_t r = 0; r < right.columns; ++r) right.at(i, r) += rho * sum[r * n + i];
  }
  for (size_t k = 0; k < n; ++k) {
    size_t pivot = k;
    for (size_t i = k; i < n; ++i) {
      if (std::abs(system.at(i, k)) > std::abs(system.at(pivot, k))) pivot = i;
    }
    for (size_t j = 0; j < n; ++j) std::swap(system.at(k, j), system.at(pivot, j));
    for (size_t j = 0; j < right.columns; ++j) std::swap(right.at(k, j), right.at(pivot, j));
    for (size_t i = 0; i < n; ++i) {
      if (i == k || system.at(i, k) == 0) continue;
      const double f = system.at(i, k) / system.at(k, k);
      for (size_t j = k; j < n; ++j) system.at(i, j) -= f * system.at(k, j);
      for (size_t j = 0; j < right.columns; ++j) right.at(i, j) -= f * right.at(k, j);
    }
  }
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < right.columns; ++j) right.at(i, j) /= system.at(i, i);
  }
  return transposed(right);
}

// beta_min 0.7, beta_max 1, head_ratio 0.2, of a layer of a feed-forward block.
inline PlainMatrix plain_resmerge(const std::vector<PlainMatrix>& tau, bool& doubtful) {
  const auto n = static_cast<double>(tau.size());
  std::vector<Vector> heads, residuals, units;
  double lengths = 0;
  for (const PlainMatrix& t : tau) {
    PlainMatrix head(t.rows, t.columns);
    const PlainSvd svd = plain_svd(t);
    if (!svd.s.empty()) add_outer(svd.u[0], svd.v[0], svd.s[0], head);
    if (svd.s.size() > 1) doubtful |= svd.s[1] > (1 - 1e-5) * svd.s[0];
    heads.push_back(head.values);
    residuals.push_back(sum_of(1, t.values, -1, head.values));
    const double length = norm(residuals.back());
    // What is left of a matrix of rank 1 is rounding, whose direction is anything.
    doubtful |= length < 1e-6 * norm(t.values) && norm(t.values) > 0;
    units.push_back(length > 0 ? times(1 / length, residuals.back()) : residuals.back());
    lengths += length / n;
  }
  Vector mean(tau[0].values.size()), direction = mean, of_heads = mean, backbone;
  for (size_t m = 0; m < tau.size(); ++m) {
    mean = sum_of(1, mean, 1 / n, residuals[m]);
    direction = sum_of(1, direction, 1, units[m]);
    of_heads = sum_of(1, of_heads, 1 / n, heads[m]);
  }
  double similarity = 0, agreement = 0, pairs = 0, pairs_of_heads = 0;
  for (size_t i = 0; i < tau.size(); ++i) {
    for (size_t j = i + 1; j < tau.size(); ++j, ++pairs) {
      similarity += plain_cosine(residuals[i], residuals[j]);
      if (norm(heads[i]) == 0 || norm(heads[j]) == 0) continue;
      agreement += std::max(0.0, plain_cosine(heads[i], heads[j]));
      ++pairs_of_heads;
    }
  }
  similarity /= pairs;
  agreement = pairs_of_heads > 0 ? agreement / pairs_of_heads : 1;
  const double coherence = norm(direction) / n;
  doubtful |= std::abs(coherence - 1 / std::sqrt(n)) < 1e-6;
  if (coherence <= 1 / std::sqrt(n)) {
    backbone = mean;
  } else {
    const double score = ((similarity + 1) / 2 + (coherence + 1) / 2) / 2;
    backbone = times(std::pow(coherence, 1 - 0.3 * score) * lengths / norm(direction), direction);
  }
  PlainMatrix out(tau[0].rows, tau[0].columns);
  out.values = backbone;
  if (norm(of_heads) > 0) {
    out.values = sum_of(1, backbone, 0.2 * agreement * norm(backbone) / norm(of_heads), of_heads);
  }
  return out;
}

// base + lambda times what the method makes of the weighted task vectors of a layer, or their mean.
inline Vector plain_matrix_method(std::string_view method, const TestTensor& t, bool& doubtful) {
  std::vector<PlainMatrix> tau;
  const bool is_layer = t.task.shape.size() == 2;
  const auto columns = static_cast<size_t>(t.task.columns());
  PlainMatrix merged(is_layer ? t.base.size() / columns : 1, is_layer ? columns : t.base.size());
  bool changed = false;
  for (size_t m = 0; m < t.models.size(); ++m) {
    tau.push_back(merged);
    for (size_t i = 0; i < t.base.size(); ++i) {
      tau[m].values[i] = t.task.models[m]["weight"] *
                         (static_cast<double>(t.models[m][i]) - static_cast<double>(t.base[i]));
      changed |= tau[m].values[i] != 0;
    }
  }
  if (changed && is_layer) {
    merged = method == "iso_c"   ? plain_iso_c(tau)
             : method == "tsv_m" ? plain_tsv_m(tau, doubtful)
             : method == "wudi"  ? plain_wudi(tau, 0.01)
                                 : plain_resmerge(tau, doubtful);
  } else {
    for (const PlainMatrix& x : tau)
      merged.values = sum_of(1, merged.values, 1 / static_cast<double>(tau.size()), x.values);
  }
  return sum_of(1, as_double(t.base), t.task["lambda"], merged.values);
}
inline bool is_matrix_method(std::string_view method) {
  return method == "iso_c" || method == "tsv_m" || method == "wudi" || method == "resmerge";
}

inline PlainStyle plain_style(std::string_view method) {
  if (method == "task_arithmetic") return {};
  if (method == "ties") return {PlainKeep::kLargest, true, true, false};
  if (method == "dare_linear") return {PlainKeep::kRandom, false, false, true};
  if (method == "dare_ties") return {PlainKeep::kRandom, true, false, true};
  if (method == "breadcrumbs") return {PlainKeep::kMiddle, false, false, false};
  if (method == "breadcrumbs_ties") return {PlainKeep::kMiddle, true, false, false};
  if (method == "della") return {PlainKeep::kRanked, true, true, true};
  return {PlainKeep::kRanked, false, false, true};  // della_linear
}

// Any method but arcee_fusion.
inline Vector plain_merge(std::string_view method, const TestTensor& t, bool with_base) {
  Vector weights;
  for (const ModelParameters& m : t.task.models) weights.push_back(m["weight"]);
  const VectorMethod multislerp = [&](const std::vector<Vector>& m, const Vector&) {
    return plain_multislerp(m, weights);
  };
  bool doubtful = false;
  if (is_matrix_method(method)) return plain_matrix_method(method, t, doubtful);
  if (method == "linear") return plain_linear(t);
  if (method == "passthrough") return times(t.task.models[0]["scale"], as_double(t.models[0]));
  if (method == "nearswap") return plain_nearswap(t);
  if (method == "ram" || method == "ramplus_tl") return plain_ram(t, method == "ramplus_tl");
  if (method == "sce") return plain_sce(t);
  if (method == "nuslerp") return plain_nuslerp(t, with_base);
  if (method == "multislerp")
    return by_groups(t, whole_tensor(t), with_base ? of_deltas(multislerp) : multislerp);
  if (method == "karcher")
    return by_groups(t, whole_tensor(t), [](auto& m, auto&) { return plain_karcher(m); });
  if (method == "model_stock")
    return by_groups(t, t.task.find("filter_wise").value_or(0) != 0 ? rows_of(t) : whole_tensor(t),
                     plain_stock);
  if (method == "slerp")
    return by_groups(t, whole_tensor(t),
                     [&](auto& m, auto& b) { return plain_slerp(t.task["t"], b, m[0], 0.9995); });
  return plain_gta(t, plain_style(method));
}

}  // namespace lewis
