// The arithmetic of backend.h in double precision, written as plainly as possible.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "compute/backend.h"

namespace lewis {

inline std::vector<float> random_floats(int64_t n, uint32_t seed, float scale = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& v : values) v = normal(generator);
  return values;
}

// The backend's product; values that it does not write stay NaN.
inline std::vector<float> linear(Backend& backend, const PackedWeight& weight,
                                 const std::vector<float>& bias, const std::vector<float>& x) {
  const int64_t rows = static_cast<int64_t>(x.size()) / weight.in;
  std::vector<float> y(static_cast<size_t>(rows * weight.out), NAN);
  backend.linear(weight, bias, x.data(), rows, y.data());
  return y;
}

inline std::vector<double> plain_linear(const std::vector<float>& x,
                                        const std::vector<float>& weight,
                                        const std::vector<float>& bias, int64_t rows, int64_t out,
                                        int64_t in) {
  std::vector<double> y(static_cast<size_t>(rows * out));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < out; ++o) {
      double sum = bias.empty() ? 0.0 : bias[o];
      for (int64_t i = 0; i < in; ++i) {
        sum += static_cast<double>(x[r * in + i]) * static_cast<double>(weight[o * in + i]);
      }
      y[r * out + o] = sum;
    }
  }
  return y;
}

// Attention of one sequence: q is [queries, heads, head_dim] at positions first, first + 1, ...; k
// and v are [first + queries, kv_heads, head_dim].
inline std::vector<double> plain_attention(const AttentionShape& s, int64_t first, int64_t queries,
                                           const float* q, const float* k, const float* v) {
  std::vector<double> out(static_cast<size_t>(queries * s.heads * s.head_dim));
  for (int64_t t = 0; t < queries; ++t) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const int64_t kv = h / (s.heads / s.kv_heads);
      std::vector<double> p;
      int64_t begin = s.window ? std::max<int64_t>(0, first + t - s.window + 1) : 0;
      if (s.chunk) begin = std::max(begin, (first + t) / s.chunk * s.chunk);
      for (int64_t j = begin; j <= first + t; ++j) {
        double dot = 0;
        for (int64_t i = 0; i < s.head_dim; ++i) {
          dot += static_cast<double>(q[(t * s.heads + h) * s.head_dim + i]) *
                 static_cast<double>(k[(j * s.kv_heads + kv) * s.head_dim + i]);
        }
        const double score = dot * static_cast<double>(s.scale);
        const auto cap = static_cast<double>(s.softcap);
        p.push_back(cap != 0 ? cap * std::tanh(score / cap) : score);
      }
      const bool sink = !s.sinks.empty();
      const double other = sink ? static_cast<double>(s.sinks[static_cast<size_t>(h)]) : 0;
      double max = *std::max_element(p.begin(), p.end());
      if (sink) max = std::max(max, other);
      double sum = sink ? std::exp(other - max) : 0;
      for (double& x : p) sum += x = std::exp(x - max);
      for (size_t j = 0; j < p.size(); ++j) {
        for (int64_t i = 0; i < s.head_dim; ++i) {
          out[(t * s.heads + h) * s.head_dim + i] +=
              p[j] / sum *
              static_cast<double>(
                  v[((begin + static_cast<int64_t>(j)) * s.kv_heads + kv) * s.head_dim + i]);
        }
      }
    }
  }
  return out;
}

inline double largest_difference(const std::vector<float>& a, const std::vector<double>& b) {
  double largest = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - b[i]);
    largest = difference <= largest ? largest : difference;  // a NaN counts
  }
  return largest;
}

}  // namespace lewis
