// The choice of a layer's numbers against every candidate solved on its own: normal equations in
// double by elimination, held-out errors by their definition.
#include "refine/choice.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace lewis {
namespace {

Matrix random_matrix(int64_t rows, int64_t columns, double size, std::mt19937& random) {
  std::normal_distribution<double> normal(0, size);
  Matrix m(rows, columns);
  for (float& v : m.values) v = static_cast<float>(normal(random));
  return m;
}

// Two experts with so many fitted rows and so many that are held out, whose weights add up to one.
TextRows some_text(const std::vector<int64_t>& fit, const std::vector<int64_t>& held) {
  TextRows text;
  for (const bool held_out : {false, true}) {
    for (size_t k = 0; k < fit.size(); ++k) {
      const int64_t rows = held_out ? held[k] : fit[k];
      if (rows == 0) continue;
      text.segments.push_back({k, held_out, text.rows, rows, {}});
      double sum = 0;
      for (int64_t r = 0; r < rows; ++r) sum += r % 3 ? 1 : 0.1;
      for (int64_t r = 0; r < rows; ++r)
        text.weights.push_back(static_cast<float>((r % 3 ? 1 : 0.1) / sum));
      text.rows += rows;
    }
    if (!held_out) text.fit_rows = text.rows;
  }
  return text;
}

// A layer of which all outputs are known: `noise` is what the merged model's inputs have beside the
// experts'; the held-out rows follow the same law.
struct Problem {
  Problem(unsigned seed, TextRows rows, int64_t in, int64_t out, double noise) : text(rows) {
    std::mt19937 random(seed);
    expert_x = random_matrix(text.rows, in, 1, random);
    x = random_matrix(text.rows, in, noise, random);
    for (size_t i = 0; i < x.values.size(); ++i) x.values[i] += expert_x.values[i];
    for (const Segment& s : text.segments) {  // so that the experts' Gram matrices differ in size
      for (int64_t r = s.first_row; r < s.first_row + s.rows; ++r) {
        for (int64_t j = 0; j < in; ++j) {
          x.row(r)[j] *= s.expert == 0 ? 1.0f : 3.0f;
          expert_x.row(r)[j] *= s.expert == 0 ? 1.0f : 3.0f;
        }
      }
    }
    base = random_matrix(out, in, 1, random);
    for (int k = 0; k < 2; ++k) {
      experts.push_back(random_matrix(out, in, 0.5, random));
      for (size_t i = 0; i < base.values.size(); ++i) experts[k].values[i] += base.values[i];
    }
    prior = base;
    for (size_t i = 0; i < base.values.size(); ++i) {
      for (const Matrix& e : experts) prior.values[i] += 0.8f * (e.values[i] - base.values[i]);
    }
  }

  static double output(const Matrix& x, int64_t r, const Matrix& w, int64_t c) {
    double sum = 0;
    for (int64_t j = 0; j < x.columns; ++j)
      sum += static_cast<double>(x.row(r)[j]) * static_cast<double>(w.row(c)[j]);
    return sum;
  }

  ChoiceProbe probe() const {
    const int64_t out = base.rows;
    ChoiceProbe p;
    p.wanted = p.own = p.moved = p.target = Matrix(text.rows, out);
    p.channels = {out - 2, 2};  // as of two layers
    for (const Segment& s : text.segments) {
      for (int64_t r = s.first_row; r < s.first_row + s.rows; ++r) {
        for (int64_t c = 0; c < out; ++c) {
          const double merged = output(x, r, prior, c);
          const double target = output(expert_x, r, experts[s.expert], c);
          p.target.row(r)[c] = static_cast<float>(target);
          p.wanted.row(r)[c] = static_cast<float>(target - merged);
          p.own.row(r)[c] = static_cast<float>(output(x, r, experts[s.expert], c) - merged);
          p.moved.row(r)[c] = static_cast<float>(merged - output(x, r, base, c));
        }
      }
    }
    return p;
  }

  TextRows text;
  Matrix expert_x, x, base, prior;
  std::vector<Matrix> experts;
};

// a [n, n + m] = [A | B] -> A^-1 B, by elimination with pivots.
void eliminate(std::vector<double>& a, size_t n, size_t m) {
  for (size_t k = 0; k < n; ++k) {
    size_t pivot = k;
    for (size_t i = k; i < n; ++i) {
      if (std::abs(a[i * (n + m) + k]) > std::abs(a[pivot * (n + m) + k])) pivot = i;
    }
    for (size_t j = 0; j < n + m; ++j) std::swap(a[k * (n + m) + j], a[pivot * (n + m) + j]);
    for (size_t i = 0; i < n; ++i) {
      if (i == k) continue;
      const double f = a[i * (n + m) + k] / a[k * (n + m) + k];
      for (size_t j = k; j < n + m; ++j) a[i * (n + m) + j] -= f * a[k * (n + m) + j];
    }
  }
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = n; j < n + m; ++j) a[i * (n + m) + j] /= a[i * (n + m) + i];
  }
}

// The weight of an expert's tokens in the sums.
std::vector<double> expert_factors(const Problem& p, RefineWeighting weighting) {
  std::vector<double> factors(2, 1.0);
  if (weighting == RefineWeighting::kTokens) return factors;
  double sum = 0;
  for (const Segment& s : p.text.segments) {
    if (s.held_out) continue;
    double squares = 0;
    for (int64_t i = 0; i < p.x.columns; ++i) {
      for (int64_t j = 0; j < p.x.columns; ++j) {
        double g = 0;
        for (int64_t r = s.first_row; r < s.first_row + s.rows; ++r)
          g += static_cast<double>(p.text.weights[r]) * p.x.row(r)[i] * p.x.row(r)[j];
        squares += g * g;
      }
    }
    factors[s.expert] = 1 / std::sqrt(squares);
    sum += factors[s.expert] / 2;
  }
  for (double& f : factors) f /= sum;
  return factors;
}

// W of (G + rho I) W^T = sum_k X^T w (alpha X^e + (1 - alpha) X) W_k^T + rho W_s^T, [in, out].
std::vector<double> solved(const Problem& p, const LayerChoice& choice) {
  const auto in = static_cast<size_t>(p.x.columns), out = static_cast<size_t>(p.base.rows);
  const std::vector<double> factors = expert_factors(p, choice.weighting);
  std::vector<double> a(in * (in + out));
  for (const Segment& s : p.text.segments) {
    if (s.held_out) continue;
    for (int64_t r = s.first_row; r < s.first_row + s.rows; ++r) {
      const double w = factors[s.expert] * static_cast<double>(p.text.weights[r]);
      for (size_t i = 0; i < in; ++i) {
        const double wx = w * static_cast<double>(p.x.row(r)[i]);
        for (size_t j = 0; j < in; ++j) a[i * (in + out) + j] += wx * p.x.row(r)[j];
        for (size_t c = 0; c < out; ++c) {
          const auto channel = static_cast<int64_t>(c);
          const Matrix& weight = p.experts[s.expert];
          a[i * (in + out) + in + c] +=
              wx * (choice.alpha * Problem::output(p.expert_x, r, weight, channel) +
                    (1 - choice.alpha) * Problem::output(p.x, r, weight, channel));
        }
      }
    }
  }
  double trace = 0;
  for (size_t i = 0; i < in; ++i) trace += a[i * (in + out) + i];
  const double rho = choice.ridge * trace / static_cast<double>(in);
  for (size_t i = 0; i < in; ++i) {
    a[i * (in + out) + i] += rho;
    for (size_t c = 0; c < out; ++c) {
      const double from = p.base.values[c * in + i], to = p.prior.values[c * in + i];
      a[i * (in + out) + in + c] += rho * (from + choice.prior_scale * (to - from));
    }
  }
  eliminate(a, in, out);
  std::vector<double> w(in * out);
  for (size_t i = 0; i < in; ++i) {
    for (size_t c = 0; c < out; ++c) w[i * out + c] = a[i * (in + out) + in + c];
  }
  return w;
}

// Per piece of the held-out rows: the mean over experts and layers of the relative square.
std::vector<double> held_out_errors(const Problem& p, const std::vector<int64_t>& channels,
                                    const std::vector<double>& w) {
  const auto out = static_cast<size_t>(p.base.rows), in = static_cast<size_t>(p.x.columns);
  std::vector<double> errors;
  for (const RowPiece& piece : pieces_of(p.text)) {
    const Segment& s = p.text.segments[piece.segment];
    double error = 0;
    int64_t first = 0;
    for (const int64_t count : channels) {
      double size = 0, left = 0;
      for (int64_t r = s.first_row; r < s.first_row + s.rows; ++r) {
        for (int64_t c = first; c < first + count; ++c) {
          const double target = Problem::output(p.expert_x, r, p.experts[s.expert], c);
          double found = 0;
          for (size_t j = 0; j < in; ++j)
            found += p.x.row(r)[j] * w[j * out + static_cast<size_t>(c)];
          const double weight = p.text.weights[static_cast<size_t>(r)];
          size += weight * target * target;
          if (r >= piece.first_row && r < piece.first_row + piece.rows)
            left += weight * (found - target) * (found - target);
        }
      }
      error += left / size / static_cast<double>(channels.size()) / 2;
      first += count;
    }
    errors.push_back(error);
  }
  return errors;
}

double sum(const std::vector<double>& values) {
  double total = 0;
  for (const double v : values) total += v;
  return total;
}

// The candidate of least error among those that are better than the first by two standard errors.
size_t taken(const std::vector<std::vector<double>>& errors, const std::vector<size_t>& strata) {
  size_t best = 0;
  for (size_t c = 1; c < errors.size(); ++c) {
    double variance = 0, gain = 0;
    for (const size_t stratum : {size_t{2}, size_t{3}}) {
      std::vector<double> g;
      for (size_t i = 0; i < strata.size(); ++i) {
        if (strata[i] == stratum) g.push_back(errors[0][i] - errors[c][i]);
      }
      const auto n = static_cast<double>(g.size());
      const double mean = sum(g) / n;
      double squares = 0;
      for (const double v : g) squares += (v - mean) * (v - mean);
      variance += n * squares / (n - 1);
      gain += sum(g);
    }
    if (gain > 2 * std::sqrt(variance) && sum(errors[c]) < sum(errors[best])) best = c;
  }
  return best;
}

RefineSettings all_open() {
  RefineSettings s;
  s.alpha = s.ridge = s.prior_scale = std::nullopt;
  s.weighting = std::nullopt;
  return s;
}

// More tokens than inputs, and fewer; inputs that are nearly the experts', and noisy ones.
TEST(RefineChoice, IsTheBestOfAllCandidatesSolvedOneByOne) {
  Threads threads(2);
  const auto backend = make_cpu_backend(threads);
  const ChoiceTable table = choice_table(all_open(), true, true);
  size_t of_default = 0, of_others = 0;
  for (unsigned seed = 0; seed < 6; ++seed) {
    const std::vector<int64_t> fit =
        seed % 2 ? std::vector<int64_t>{14, 11} : std::vector<int64_t>{70, 60};
    const Problem p(seed, some_text(fit, {40, 33}), 30, 7, seed < 3 ? 0.1 : 1.5);
    const ChoiceProbe probe = p.probe();
    std::vector<std::vector<double>> errors;
    std::vector<LayerChoice> candidates;
    for (const RefineWeighting weighting : table.weightings) {
      for (const double ridge : table.ridges) {
        for (const double scale : table.prior_scales) {
          for (const double alpha : table.alphas) {
            candidates.push_back({alpha, ridge, scale, weighting});
            errors.push_back(held_out_errors(p, probe.channels, solved(p, candidates.back())));
          }
        }
      }
    }
    ASSERT_EQ(candidates.size(), table.size());
    std::vector<size_t> strata;
    for (const RowPiece& piece : pieces_of(p.text)) strata.push_back(piece.segment);
    const size_t best = taken(errors, strata);
    FittedSystem system;
    const ChoiceRecord found = choose(table, p.text, p.x, probe, *backend, threads, system);
    EXPECT_EQ(found.choice, candidates[best]) << seed;
    EXPECT_NEAR(found.error_default / sum(errors[0]), 1, 1e-4) << seed;
    EXPECT_NEAR(found.error / sum(errors[best]), 1, 1e-4) << seed;
    ++(best == 0 ? of_default : of_others);
    // The system that comes back is the chosen one's, to the bit.
    const FittedSystem again =
        fit_system(p.text, p.x, found.choice.weighting, {.ridge = found.choice.ridge}, threads);
    const FloatMatrix residuals = probe.wanted.first_rows(p.text.fit_rows);
    EXPECT_EQ(system.weights, again.weights);
    EXPECT_EQ(system.ridge->solve(residuals), again.ridge->solve(residuals)) << seed;
  }
  EXPECT_GT(of_others, 0u);
}

TEST(RefineChoice, LeavesTheDefaultOnlyForMoreThanNoise) {
  const std::vector<size_t> strata = {2, 2, 2, 2, 3, 3, 3, 3};
  const std::vector<double> standard(8, 1.0);
  const auto best = [&](std::vector<std::vector<double>> others) {
    others.insert(others.begin(), standard);
    return best_candidate(others, strata);
  };
  EXPECT_EQ(best({}), 0u);
  const std::vector<double> steady = {0.99, 0.98, 0.99, 0.98, 0.99, 0.98, 0.99, 0.98};
  const std::vector<double> lucky = {0.1, 1.2, 1.2, 1.2, 1.0, 1.0, 1.0, 1.0};  // less, by one piece
  EXPECT_EQ(best({lucky}), 0u);
  EXPECT_EQ(best({steady}), 1u);
  EXPECT_EQ(best({lucky, steady}), 2u);
  // Experts that differ in what they gain are no noise.
  EXPECT_EQ(best({{0.9, 0.9, 0.9, 0.9, 1.01, 1.01, 1.01, 1.01}}), 1u);
  EXPECT_EQ(best_candidate(std::vector<std::vector<double>>{{}, {}}, {}), 0u) << "nothing held out";
}

TEST(RefineChoice, TheTableHoldsWhatIsLeftOpen) {
  RefineSettings s = all_open();
  EXPECT_EQ(choice_table(s, false, true).size(), 1u) << "nothing is held out";
  EXPECT_EQ(choice_table(s, false, true).standard(), LayerChoice());
  EXPECT_EQ(choice_table(s, true, false).prior_scales.size(), 1u) << "without a base";
  EXPECT_EQ(choice_table(s, true, true).standard(), LayerChoice());
  s.ridge = 3;
  s.alpha = 0.5;
  s.prior_scale = 0.7;
  s.weighting = RefineWeighting::kNorm;
  EXPECT_EQ(choice_table(s, true, true).size(), 1u);
  EXPECT_EQ(choice_table(s, true, true).standard(),
            (LayerChoice{0.5, 3, 0.7, RefineWeighting::kNorm}));
  EXPECT_EQ(choice_table(s, true, false).standard().prior_scale, 1);
  s = all_open();
  s.method = RefineMethod::kRegmeanPp;
  EXPECT_EQ(choice_table(s, true, true).size(), 1u);
  EXPECT_EQ(choice_table(s, true, true).standard().alpha, 0);
}

TEST(RefineChoice, PiecesCoverTheHeldOutRowsOnce) {
  for (const int64_t held : {1, 7, 8, 30, 1000}) {
    const TextRows text = some_text({20, 10}, {held, 9});
    int64_t next = text.fit_rows;
    for (const RowPiece& piece : pieces_of(text)) {
      EXPECT_EQ(piece.first_row, next);
      EXPECT_GT(piece.rows, 0);
      next += piece.rows;
    }
    EXPECT_EQ(next, text.rows);
  }
}

}  // namespace
}  // namespace lewis
