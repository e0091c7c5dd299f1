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
