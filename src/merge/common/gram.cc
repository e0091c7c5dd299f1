#include "merge/common/gram.h"

#include <algorithm>
#include <cmath>

#include "merge/common/rows.h"
#include "merge/selection/top_k.h"

namespace lewis {
namespace {

LEWIS_VECTORIZED void add_products(const float* a, const float* b, size_t n, double* sum) {
  for (size_t i = 0; i < n; ++i) sum[i] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
}

// The vectors of a chunk: the inputs themselves, or task vectors in chunk.scratch.
std::vector<const float*> vectors_of(const Chunk& chunk, GramOptions options) {
  std::vector<const float*> vectors;
  for (size_t m = 0; m < chunk.models.size(); ++m) {
    if (options.deltas) {
      float* delta = chunk.scratch.data() + m * chunk.size();
      task_vector(chunk, m, delta);
      vectors.push_back(delta);
    } else {
      vectors.push_back(chunk.models[m].data());
    }
  }
  if (options.with_base) vectors.push_back(chunk.base.data());
  return vectors;
}

LEWIS_VECTORIZED double sum_of_products(const float* a, const float* b, size_t n) {
  double lanes[32] = {};  // a fixed order of adding that the compiler can vectorise
  size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    for (size_t lane = 0; lane < 32; ++lane) {
      lanes[lane] += static_cast<double>(a[i + lane]) * static_cast<double>(b[i + lane]);
    }
  }
  for (size_t lane = 0; i < n; ++i, ++lane) {
    lanes[lane] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  }
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

void add_dots(std::span<const float* const> vectors, size_t begin, size_t size, Gram& gram) {
  for (size_t i = 0; i < vectors.size(); ++i) {
    for (size_t j = i; j < vectors.size(); ++j) {
      gram.at(i, j) += sum_of_products(vectors[i] + begin, vectors[j] + begin, size);
    }
  }
}

void mirror(Gram& gram) {
  for (size_t i = 0; i < gram.size(); ++i) {
    for (size_t j = 0; j < i; ++j) gram.at(i, j) = gram.at(j, i);
  }
}

}  // namespace

double dot_product(const float* a, const float* b, size_t n) { return sum_of_products(a, b, n); }

namespace {
LEWIS_VECTORIZED double sum_values(const double* x, size_t n) {
  double lanes[32] = {};
  size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    for (size_t lane = 0; lane < 32; ++lane) lanes[lane] += x[i + lane];
  }
  for (size_t lane = 0; i < n; ++i, ++lane) lanes[lane] += x[i];
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}
}  // namespace

double sum_of(const double* x, size_t n) { return sum_values(x, n); }

double Gram::norm(size_t i) const { return std::sqrt(std::max(0.0, at(i, i))); }

double Gram::cosine(size_t i, size_t j) const {
  const double lengths = norm(i) * norm(j);
  return lengths > 0 ? std::clamp(at(i, j) / lengths, -1.0, 1.0) : 0.0;
}

double Gram::dot(size_t i, std::span<const double> c) const {
  double sum = 0;
  for (size_t j = 0; j < n_; ++j) sum += c[j] * at(i, j);
  return sum;
}

double Gram::norm_of(std::span<const double> c) const {
  double square = 0;
  for (size_t i = 0; i < n_; ++i) square += c[i] * dot(i, c);
  return std::sqrt(std::max(0.0, square));
}

namespace {

std::vector<Gram> gram_of_tensor(const ChunkPass& pass, GramOptions options, size_t n) {
  std::vector<Gram> parts(pass.slots(), Gram(n));
  pass.run_all([&](size_t slot, const Chunk& chunk) {
    add_dots(vectors_of(chunk, options), 0, chunk.size(), parts[slot]);
  });
  Gram whole(n);
  for (const Gram& part : parts) {
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = i; j < n; ++j) whole.at(i, j) += part.at(i, j);
    }
  }
  return {whole};
}

std::vector<Gram> grams_of_rows(const TensorTask& task, const ChunkPass& pass, GramOptions options,
                                size_t n) {
  std::vector<Gram> rows(static_cast<size_t>(task.rows()), Gram(n));
  pass.run_all([&](size_t, const Chunk& chunk) {
    const auto vectors = vectors_of(chunk, options);
    for_rows(task, chunk, [&](int64_t row, size_t begin, size_t size) {
      add_dots(vectors, begin, size, rows[static_cast<size_t>(row)]);
    });
  });
  return rows;
}

LEWIS_VECTORIZED void add_to(const double* x, size_t n, double* sum) {
  for (size_t i = 0; i < n; ++i) sum[i] += x[i];
}

// A few slots at a time, so that their sums fit in memory; added in the order of the slots.
std::vector<Gram> grams_of_columns(const TensorTask& task, const ChunkPass& pass,
                                   GramOptions options, size_t n) {
  constexpr size_t kWave = 16;
  const auto columns = static_cast<size_t>(column_count(task));
  using Sums = std::vector<double>;  // [pair of vectors, column]
  Sums sums(n * n * columns);
  std::vector<Sums> parts(std::min(kWave, pass.slots()), sums);
  for (size_t first = 0; first < pass.slots(); first += kWave) {
    std::vector<size_t> wave;
    for (size_t s = first; s < std::min(first + kWave, pass.slots()); ++s) wave.push_back(s);
    pass.run(wave, [&](size_t slot, const Chunk& chunk) {
      const auto vectors = vectors_of(chunk, options);
      for (size_t i = 0; i < n; ++i) {
        for (size_t j = i; j < n; ++j) {
          double* sum = &parts[slot - first][(i * n + j) * columns];
          for_columns(task, chunk, [&](size_t column, size_t begin, size_t size) {
            add_products(vectors[i] + begin, vectors[j] + begin, size, sum + column);
          });
        }
      }
    });
    for (size_t i = 0; i < wave.size(); ++i) {
      add_to(parts[i].data(), sums.size(), sums.data());
      std::fill(parts[i].begin(), parts[i].end(), 0.0);
    }
  }
  std::vector<Gram> grams(columns, Gram(n));
  for (size_t i = 0; i < n * n; ++i) {
    for (size_t c = 0; c < columns; ++c) grams[c].at(i / n, i % n) = sums[i * columns + c];
  }
  return grams;
}

}  // namespace

std::vector<Gram> gram_matrices(const TensorTask& task, const ChunkPass& pass,
                                GramOptions options) {
  const size_t n = task.models.size() + (options.with_base ? 1 : 0);
  std::vector<Gram> grams = options.along == Along::kTensor ? gram_of_tensor(pass, options, n)
                            : options.along == Along::kRows
                                ? grams_of_rows(task, pass, options, n)
                                : grams_of_columns(task, pass, options, n);
  for (Gram& gram : grams) mirror(gram);
  return grams;
}

std::unique_ptr<Survey> combine_by_gram(const TensorTask& task, const ChunkPass& pass,
                                        GramOptions options, Coefficients coefficients) {
  auto s = std::make_unique<Combination>();
  s->along = options.along;
  s->terms = task.models.size() + (options.deltas || options.with_base ? 1 : 0);
  const std::vector<Gram> grams = gram_matrices(task, pass, options);
  s->coefficients.resize(s->terms * grams.size());
  for (size_t g = 0; g < grams.size(); ++g) {
    std::vector<double> c = coefficients(task, grams[g]);
    if (options.deltas) {
      double sum = 0;
      for (const double value : c) sum += value;
      c.push_back(1 - sum);
    }
    for (size_t m = 0; m < s->terms; ++m) s->coefficients[m * grams.size() + g] = c[m];
  }
  return s;
}

namespace {

LEWIS_VECTORIZED void add_scaled(const float* x, double c, size_t n, double* sum) {
  for (size_t i = 0; i < n; ++i) sum[i] += c * static_cast<double>(x[i]);
}
LEWIS_VECTORIZED void add_scaled_each(const float* x, const double* c, size_t n, double* sum) {
  for (size_t i = 0; i < n; ++i) sum[i] += c[i] * static_cast<double>(x[i]);
}

}  // namespace

void blend_combination(const TensorTask& task, const Survey& survey, const Chunk& chunk,
                       std::span<float> out) {
  const auto& s = static_cast<const Combination&>(survey);
  const size_t vectors = s.coefficients.size() / s.terms;
  double sum[kChunkElements];
  std::fill_n(sum, out.size(), -0.0);  // -0 + x is x, also where x is -0
  for (size_t m = 0; m < s.terms; ++m) {
    const float* x = m < chunk.models.size() ? chunk.models[m].data() : chunk.base.data();
    const double* c = &s.coefficients[m * vectors];
    if (s.along == Along::kTensor) {
      if (*c != 0) add_scaled(x, *c, out.size(), sum);
    } else if (s.along == Along::kRows) {
      for_rows(task, chunk, [&](int64_t row, size_t begin, size_t size) {
        if (c[row] != 0) add_scaled(x + begin, c[row], size, sum + begin);
      });
    } else {
      for_columns(task, chunk, [&](size_t column, size_t begin, size_t size) {
        add_scaled_each(x + begin, c + column, size, sum + begin);
      });
    }
  }
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(sum[i]);
}

}  // namespace lewis
