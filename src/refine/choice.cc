#include "refine/choice.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

namespace lewis {
namespace {

constexpr int64_t kMostPieces = 8, kLeastRows = 8;  // pieces per expert, rows per piece
constexpr double kMargin = 2;                       // standard errors

const std::vector<double> kAlphas = {1, 0.75, 0.5, 0.25, 0};
const std::vector<double> kRidges = {kDefaultRidge, 0.001, 0.1, 1};
const std::vector<double> kPriorScales = {1, 0.6, 0.8, 1.25};

}  // namespace

ChoiceTable choice_table(const RefineSettings& s, bool held_out, bool has_base) {
  ChoiceTable table;
  if (s.ridge) table.ridges = {*s.ridge};
  if (s.method == RefineMethod::kRegmeanPp) table.alphas = {0};
  if (s.method != RefineMethod::kRegression) return table;
  if (s.alpha) table.alphas = {*s.alpha};
  if (s.prior_scale && has_base) table.prior_scales = {*s.prior_scale};
  if (s.weighting) table.weightings = {*s.weighting};
  if (!held_out) return table;
  if (!s.alpha) table.alphas = kAlphas;
  if (!s.ridge) table.ridges = kRidges;
  if (!s.prior_scale && has_base) table.prior_scales = kPriorScales;
  if (!s.weighting) table.weightings.push_back(RefineWeighting::kNorm);
  return table;
}

namespace {

// The tokens' weights, or with kNorm those times a factor of their expert, of which the mean is 1.
std::vector<float> fit_weights(const TextRows& text, const Matrix& x, RefineWeighting weighting,
                               Threads& threads) {
  std::vector<float> weights(text.weights.begin(), text.weights.begin() + text.fit_rows);
  if (weighting == RefineWeighting::kTokens) return weights;
  std::vector<double> inverse;  // of each fitted segment, 1 / || G_k ||_F
  double sum = 0;
  for (const Segment& s : text.segments) {
    if (s.held_out) continue;
    const FloatMatrix rows{x.row(s.first_row), s.rows, x.columns, x.columns};
    const auto its =
        std::span(weights).subspan(static_cast<size_t>(s.first_row), static_cast<size_t>(s.rows));
    const double norm = gram_norm(rows, its, threads);
    inverse.push_back(norm > 0 ? 1 / norm : 0);
    sum += inverse.back();
  }
  if (!(sum > 0)) return weights;
  size_t i = 0;
  for (const Segment& s : text.segments) {
    if (s.held_out) continue;
    const double factor = inverse[i++] * static_cast<double>(inverse.size()) / sum;
    for (int64_t r = s.first_row; r < s.first_row + s.rows; ++r)
      weights[static_cast<size_t>(r)] =
          static_cast<float>(factor * static_cast<double>(weights[static_cast<size_t>(r)]));
  }
  return weights;
}

}  // namespace

FittedSystem fit_system(const TextRows& text, const Matrix& x, RefineWeighting weighting,
                        const RidgeOptions& options, Threads& threads) {
  FittedSystem system{fit_weights(text, x, weighting, threads), nullptr};
  system.ridge =
      std::make_unique<RidgeSystem>(x.first_rows(text.fit_rows), system.weights, options, threads);
  return system;
}

std::vector<RowPiece> pieces_of(const TextRows& text) {
  std::vector<RowPiece> pieces;
  for (size_t s = 0; s < text.segments.size(); ++s) {
    const Segment& segment = text.segments[s];
    if (!segment.held_out) continue;
    const int64_t count = std::clamp<int64_t>(segment.rows / kLeastRows, 1, kMostPieces);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t begin = segment.rows * i / count, end = segment.rows * (i + 1) / count;
      pieces.push_back({s, segment.first_row + begin, end - begin});
    }
  }
  return pieces;
}

namespace {

// The mean of the differences over the pieces of a stratum varies as their spread says, so that of
// a sum of n has n times their variance.
double squared_error_of_sum(std::span<const double> values, std::span<const size_t> strata) {
  struct Moments {
    double count = 0, sum = 0, squares = 0;
  };
  std::map<size_t, Moments> by_stratum;
  for (size_t i = 0; i < values.size(); ++i) {
    Moments& m = by_stratum[strata[i]];
    m.count += 1;
    m.sum += values[i];
    m.squares += values[i] * values[i];
  }
  double variance = 0;
  for (const auto& [stratum, m] : by_stratum) {
    if (m.count > 1) {
      variance += m.count / (m.count - 1) * std::max(0.0, m.squares - m.sum * m.sum / m.count);
    } else {
      variance += m.squares;  // a single piece says nothing about its spread
    }
  }
  return variance;
}

double sum_of(std::span<const double> values) {
  double sum = 0;
  for (const double v : values) sum += v;
  return sum;
}

}  // namespace

size_t best_candidate(std::span<const std::vector<double>> errors, std::span<const size_t> strata) {
  size_t best = 0;
  double least = sum_of(errors[0]);
  std::vector<double> gain(strata.size());
  for (size_t c = 1; c < errors.size(); ++c) {
    for (size_t i = 0; i < gain.size(); ++i) gain[i] = errors[0][i] - errors[c][i];
    const double error = sum_of(errors[c]);
    const double noise = std::sqrt(squared_error_of_sum(gain, strata));
    if (error < least && sum_of(gain) > kMargin * noise) {
      best = c;
      least = error;
    }
  }
  return best;
}

namespace {

// What a candidate leaves is v0 + (1 - alpha) v1 + (prior_scale - 1) v2, so that its square follows
// from six products of those three.
struct Products {
  double v00 = 0, v01 = 0, v02 = 0, v11 = 0, v12 = 0, v22 = 0;
  double square(double a, double b) const {
    return v00 + 2 * a * v01 + 2 * b * v02 + a * a * v11 + 2 * a * b * v12 + b * b * v22;
  }
};

// All candidates for the layers that share one input.
class Comparison {
 public:
  Comparison(const ChoiceTable& table, const TextRows& text, const Matrix& x,
             const ChoiceProbe& probe, Backend& backend, Threads& threads)
      : table_(table),
        text_(text),
        x_(x),
        probe_(probe),
        backend_(backend),
        threads_(threads),
        pieces_(pieces_of(text)),
        sizes_(sizes_of_targets()) {}

  ChoiceRecord best(FittedSystem& system) {
    const Matrix sides = right_sides();
    for (const RefineWeighting weighting : table_.weightings) {
      system = fit(weighting, table_.ridges[0]);
      const std::vector<double> right = system.ridge->right_side(sides.first_rows(sides.rows));
      for (size_t r = 0; r < table_.ridges.size(); ++r) {
        if (r > 0) system.ridge->factor_again(table_.ridges[r]);
        add_candidates(weighting, table_.ridges[r], system.ridge->solve_right_side(right));
      }
    }
    std::vector<size_t> strata;
    for (const RowPiece& p : pieces_) strata.push_back(p.segment);
    const size_t chosen = best_candidate(errors_, strata);
    const LayerChoice& choice = candidates_[chosen];
    if (choice.weighting != table_.weightings.back()) {
      system = fit(choice.weighting, choice.ridge);
    } else if (choice.ridge != table_.ridges.back()) {
      system.ridge->factor_again(choice.ridge);
    }
    system.ridge->forget_matrix();
    return {{}, choice, sum_of(errors_[0]), sum_of(errors_[chosen])};
  }

 private:
  FittedSystem fit(RefineWeighting weighting, double ridge) const {
    const RidgeOptions options{.ridge = ridge, .keep = table_.ridges.size() > 1};
    return fit_system(text_, x_, weighting, options, threads_);
  }

  // Those of `wanted`, `own` and `moved` side by side: every candidate's is a sum of these.
  Matrix right_sides() const {
    const std::array parts = {&probe_.wanted, &probe_.own, &probe_.moved};
    int64_t columns = 0;
    for (const Matrix* part : parts) columns += part->columns;
    Matrix sides(text_.fit_rows, columns);
    for_rows(text_.fit_rows, threads_, [&](int64_t row, int64_t end) {
      for (; row < end; ++row) {
        float* to = sides.row(row);
        for (const Matrix* part : parts) {
          if (part->columns > 0) to = std::copy_n(part->row(row), part->columns, to);
        }
      }
    });
    return sides;
  }

  // Per held-out segment and layer the size of what the experts return.
  std::vector<std::vector<double>> sizes_of_targets() const {
    std::vector<std::vector<double>> sizes(text_.segments.size());
    for (size_t s = 0; s < sizes.size(); ++s) {
      const Segment& segment = text_.segments[s];
      sizes[s].resize(probe_.channels.size());
      if (!segment.held_out) continue;
      for (int64_t r = segment.first_row; r < segment.first_row + segment.rows; ++r) {
        const float* row = probe_.target.row(r);
        const double w = text_.weights[static_cast<size_t>(r)];
        for (size_t l = 0; l < probe_.channels.size(); ++l) {
          for (int64_t c = 0; c < probe_.channels[l]; ++c, ++row)
            sizes[s][l] += w * static_cast<double>(*row) * static_cast<double>(*row);
        }
      }
    }
    return sizes;
  }

  // solution [right sides, in].
  void add_candidates(RefineWeighting weighting, double ridge,
                      const std::vector<double>& solution) {
    const Matrix found = outputs_of(solution);
    std::vector<Products> products(pieces_.size());
    threads_.run(pieces_.size(), [&](size_t p) { products[p] = products_of(pieces_[p], found); });
    for (const double scale : table_.prior_scales) {
      for (const double alpha : table_.alphas) {
        candidates_.push_back({alpha, ridge, scale, weighting});
        std::vector<double>& errors = errors_.emplace_back();
        for (const Products& p : products) errors.push_back(p.square(1 - alpha, scale - 1));
      }
    }
  }

  // What a solution gives for the held-out rows, [held-out rows, right sides].
  Matrix outputs_of(const std::vector<double>& solution) const {
    const int64_t in = x_.columns, sides = static_cast<int64_t>(solution.size()) / in;
    const std::vector<float> weights(solution.begin(), solution.end());
    const auto packed =
        backend_.pack(DType::kF32, std::as_bytes(std::span(weights)).data(), sides, in);
    Matrix found(text_.held_rows(), sides);
    if (found.rows > 0)
      backend_.linear(*packed, {}, x_.row(text_.fit_rows), found.rows, found.row(0));
    return found;
  }

  Products products_of(const RowPiece& piece, const Matrix& found) const {
    const int64_t channels = probe_.wanted.columns;
    const bool owns = probe_.own.columns > 0, moves = probe_.moved.columns > 0;
    Products sum;
    for (int64_t r = piece.first_row; r < piece.first_row + piece.rows; ++r) {
      const double w = text_.weights[static_cast<size_t>(r)];
      const float* y = found.row(r - text_.fit_rows);
      int64_t c = 0;
      for (size_t l = 0; l < probe_.channels.size(); ++l) {
        const double size = sizes_[piece.segment][l];
        const double scale = size > 0 ? w / (size * denominator()) : 0;
        for (const int64_t end = c + probe_.channels[l]; c < end; ++c) {
          const double yc = y[c];
          const double v0 = yc - static_cast<double>(probe_.wanted.row(r)[c]);
          const double v1 = owns ? static_cast<double>(y[channels + c]) - yc : 0;
          const double v2 = moves ? static_cast<double>(probe_.moved.row(r)[c]) -
                                        static_cast<double>(y[(owns ? 2 : 1) * channels + c])
                                  : 0;
          sum.v00 += scale * v0 * v0;
          sum.v01 += scale * v0 * v1;
          sum.v02 += scale * v0 * v2;
          sum.v11 += scale * v1 * v1;
          sum.v12 += scale * v1 * v2;
          sum.v22 += scale * v2 * v2;
        }
      }
    }
    return sum;
  }

  // Layers times experts that have held-out text.
  double denominator() const {
    const auto held = std::ranges::count_if(text_.segments, &Segment::held_out);
    return static_cast<double>(held) * static_cast<double>(probe_.channels.size());
  }

  const ChoiceTable& table_;
  const TextRows& text_;
  const Matrix& x_;
  const ChoiceProbe& probe_;
  Backend& backend_;
  Threads& threads_;
  std::vector<RowPiece> pieces_;
  std::vector<std::vector<double>> sizes_;
  std::vector<LayerChoice> candidates_;
  std::vector<std::vector<double>> errors_;  // [candidate][piece]
};

}  // namespace

ChoiceRecord choose(const ChoiceTable& table, const TextRows& text, const Matrix& x,
                    const ChoiceProbe& probe, Backend& backend, Threads& threads,
                    FittedSystem& system) {
  return Comparison(table, text, x, probe, backend, threads).best(system);
}

}  // namespace lewis
