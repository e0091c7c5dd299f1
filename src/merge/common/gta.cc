#include "merge/common/gta.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "merge/selection/sparsify.h"
#include "merge/selection/top_k.h"

namespace lewis {
namespace {

// A model that contributes.
struct ActiveModel {
  size_t index = 0;  // into Chunk::models
  float weight = 1;
  float factor = 1;            // weight * rescale
  std::unique_ptr<Mask> mask;  // null: everything is kept
};

struct GtaSurvey : Survey {
  std::vector<ActiveModel> models;
  std::vector<float> weights;  // of models
  bool elect_signs = false, normalize = false;
  float divisor = 1;  // without election
  float lambda = 1;
};

// One model's weighted task vector.
void weigh(const ActiveModel& m, const Chunk& chunk, float factor, std::span<float> out) {
  const float *model = chunk.models[m.index].data(), *base = chunk.base.data();
  if (m.mask) return m.mask->weigh(chunk.first, model, base, factor, out);
  weigh_all(model, base, factor, out);
}

// rows: [models, n], the weighted task vectors.
[[gnu::always_inline]] inline void add_up(const float* rows, size_t models, size_t n,
                                          double* mixed) {
  for (size_t i = 0; i < n; ++i) mixed[i] = static_cast<double>(rows[i]);
  for (size_t m = 1; m < models; ++m) {
    for (size_t i = 0; i < n; ++i) mixed[i] += static_cast<double>(rows[m * n + i]);
  }
}

// As add_up, but only values that have the sign of the sum are added; `normalize` divides by the
// sum of their weights.
[[gnu::always_inline]] inline void add_up_elected(const float* rows, const float* weights,
                                                  size_t models, size_t n, bool normalize,
                                                  double* mixed) {
  double sign[kChunkElements], divisor[kChunkElements];
  add_up(rows, models, n, sign);
  for (size_t i = 0; i < n; ++i) sign[i] = sign[i] >= 0 ? 1.0 : -1.0;
  for (size_t i = 0; i < n; ++i) mixed[i] = divisor[i] = 0;
  for (size_t m = 0; m < models; ++m) {
    const float* row = rows + m * n;
    const auto weight = static_cast<double>(weights[m]);
    for (size_t i = 0; i < n; ++i) {  // written so that it becomes masks, not branches
      const auto value = static_cast<double>(row[i]);
      const bool counts = value * sign[i] > 0;
      mixed[i] += counts ? value : 0.0;
      divisor[i] += counts ? weight : 0.0;
    }
  }
  if (!normalize) return;
  for (size_t i = 0; i < n; ++i) {
    const double d = divisor[i];
    mixed[i] /= std::abs(d) < 1e-8 ? 1.0 : d;
  }
}

// How the weighted task vectors of a chunk become its result.
struct Combining {
  bool elect = false, normalize = false;
  float divisor = 1, lambda = 1;  // divisor: without election
};

// Where the merged difference is 0 the base stays, also a base of -0.
[[gnu::always_inline]] inline float with_base(float base, float difference) {
  return difference == 0 ? base : base + difference;
}

[[gnu::always_inline]] inline float value_at(const MaskedDelta& d, size_t i) {
  return weighted(d.model[i], d.base[i], magnitude_bits(d.model[i] - d.base[i]) - d.low < d.width,
                  d.factor);
}

// out[i] = f(i), and asks for what lies behind two models. `out` is nobody's input.
template <typename F>
[[gnu::always_inline]] inline void fill_with(const F& f, const MaskedDelta& a, const MaskedDelta& b,
                                             size_t n, float* out) {
  constexpr size_t kStrip = 2 * Ahead::kStep;
  const size_t whole = n / kStrip * kStrip;
  for (size_t first = 0; first < whole; first += kStrip) {
    a.ahead.ask(first, first + kStrip);
    b.ahead.ask(first, first + kStrip);
#pragma GCC ivdep
    for (size_t i = first; i < first + kStrip; ++i) out[i] = f(i);
  }
  for (size_t i = whole; i < n; ++i) out[i] = f(i);
}

// Two models without election: base + (a + b) / divisor * lambda.
LEWIS_VECTORIZED void add_two(const MaskedDelta a, const MaskedDelta b, float divisor, float lambda,
                              const float* base, size_t n, float* __restrict out) {
  if (divisor == 1) {
    fill_with(
        [&](size_t i) { return with_base(base[i], (value_at(a, i) + value_at(b, i)) * lambda); }, a,
        b, n, out);
  } else {
    fill_with(
        [&](size_t i) {
          return with_base(base[i], (value_at(a, i) + value_at(b, i)) / divisor * lambda);
        },
        a, b, n, out);
  }
}

// 1 / divisor as the sum of two floats; a divisor near 0 becomes 1.
struct Inverse {
  float high = 1, low = 0;
};

Inverse inverse_of(float divisor) {
  if (std::abs(divisor) < 1e-8f) return {};
  const double inverse = 1 / static_cast<double>(divisor);
  const auto high = static_cast<float>(inverse);
  return {high, static_cast<float>(inverse - static_cast<double>(high))};
}

// By who counts.
struct Inverses {
  Inverse only_a, only_b, both;
};

// Two models with election; the order of adding cannot matter, so float does. A value counts when
// it is above 0 after both got the sign of their sum. x * high + x * low, rounded once, is the
// quotient, and takes a third of its time.
[[gnu::always_inline]] inline float elected(const MaskedDelta& a, const MaskedDelta& b,
                                            const Inverses& inverses, float lambda, float base,
                                            size_t i) {
  const auto& [only_a, only_b, both] = inverses;
  const float x = value_at(a, i), y = value_at(b, i);
  const uint32_t sign = std::bit_cast<uint32_t>(x + y) & 0x80000000u;
  const auto up_x = static_cast<int32_t>(std::bit_cast<uint32_t>(x) ^ sign);
  const auto up_y = static_cast<int32_t>(std::bit_cast<uint32_t>(y) ^ sign);
  const bool counts_a = up_x > 0, counts_b = up_y > 0;  // masks, not branches
  const float mixed =
      std::bit_cast<float>(std::max(up_x, 0)) + std::bit_cast<float>(std::max(up_y, 0));
  const float high_a = counts_b ? both.high : only_a.high;
  const float low_a = counts_b ? both.low : only_a.low;
  const float high = counts_a ? high_a : only_b.high, low = counts_a ? low_a : only_b.low;
  const float mean = std::fma(mixed, high, mixed * low);
  const float signed_mean = std::bit_cast<float>(std::bit_cast<uint32_t>(mean) ^ sign);
  return with_base(base, signed_mean * lambda);
}

LEWIS_VECTORIZED void elect_two(const MaskedDelta a, const MaskedDelta b, const Inverses inverses,
                                float lambda, const float* base, size_t n, float* __restrict out) {
  fill_with([&](size_t i) { return elected(a, b, inverses, lambda, base[i], i); }, a, b, n, out);
}

void combine_two(const MaskedDelta& a, const MaskedDelta& b, const float* weights,
                 const Combining& how, const float* base, size_t n, float* out) {
  if (!how.elect) return add_two(a, b, how.divisor, how.lambda, base, n, out);
  Inverses inverses;
  if (how.normalize) {
    const float x = weights[0], y = weights[1];
    inverses = {inverse_of(x), inverse_of(y), inverse_of(x + y)};
  }
  elect_two(a, b, inverses, how.lambda, base, n, out);
}

// More: double, so that neither their order nor a rounding decides an election.
LEWIS_VECTORIZED void combine_many(const float* rows, const float* weights, size_t models,
                                   bool elect, bool normalize, float divisor, float lambda,
                                   const float* base, size_t n, float* out) {
  double sum[kChunkElements];
  elect ? add_up_elected(rows, weights, models, n, normalize, sum) : add_up(rows, models, n, sum);
  for (size_t i = 0; i < n; ++i) {
    out[i] = with_base(base[i], static_cast<float>(sum[i]) / divisor * lambda);
  }
}

// Sums of |delta| before and after the mask.
struct Norms {
  double all = 0, kept = 0;
};

constexpr size_t kLanes = 8;  // a fixed order of adding that the compiler can vectorise

// sums: [2, kLanes], of |model - base| and of |kept|. n is a multiple of kLanes.
LEWIS_VECTORIZED void sum_in_lanes(const float* model, const float* base, const float* kept,
                                   size_t n, double* sums) {
  double all[kLanes] = {}, some[kLanes] = {};
  for (size_t i = 0; i < n; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      all[lane] += static_cast<double>(std::abs(model[i + lane] - base[i + lane]));
      some[lane] += static_cast<double>(std::abs(kept[i + lane]));
    }
  }
  for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] = all[lane];
  for (size_t lane = 0; lane < kLanes; ++lane) sums[kLanes + lane] = some[lane];
}

// The norms of delta = model - base, and of the entries of it that are kept.
Norms norms_of(const float* model, const float* base, const float* kept, size_t n) {
  double sums[2 * kLanes];
  const size_t whole = n / kLanes * kLanes;
  sum_in_lanes(model, base, kept, whole, sums);
  for (size_t i = whole; i < n; ++i) {
    sums[0] += static_cast<double>(std::abs(model[i] - base[i]));
    sums[kLanes] += static_cast<double>(std::abs(kept[i]));
  }
  return {std::accumulate(sums, sums + kLanes, 0.0),
          std::accumulate(sums + kLanes, sums + 2 * kLanes, 0.0)};
}

// Gives every masked task vector its former L1 norm: factor *= sum |delta| / sum |kept|, as
// mergekit's rescale does (not 1 / density). Costly masks are remembered on the way.
void rescale(GtaSurvey& s, const TensorTask& task, const ChunkPass& pass) {
  const auto masked = [](const ActiveModel& m) { return m.mask != nullptr; };
  if (std::none_of(s.models.begin(), s.models.end(), masked)) return;
  std::vector<std::vector<Norms>> slots(s.models.size(), std::vector<Norms>(pass.slots()));
  std::vector<std::unique_ptr<BitMask>> remembered(s.models.size());
  for (size_t i = 0; i < s.models.size(); ++i) {
    if (masked(s.models[i]) && s.models[i].mask->costly())
      remembered[i] = std::make_unique<BitMask>(task.count);
  }
  pass.run_all([&](size_t slot, const Chunk& chunk) {
    float kept[kChunkElements];
    for (size_t i = 0; i < s.models.size(); ++i) {
      const ActiveModel& m = s.models[i];
      if (!m.mask) continue;
      weigh(m, chunk, 1, {kept, chunk.size()});
      const Norms norms =
          norms_of(chunk.models[m.index].data(), chunk.base.data(), kept, chunk.size());
      slots[i][slot].all += norms.all;
      slots[i][slot].kept += norms.kept;
      if (remembered[i]) remembered[i]->keep_nonzero(chunk.first, {kept, chunk.size()});
    }
  });
  for (size_t i = 0; i < s.models.size(); ++i) {
    Norms sum;
    for (const Norms& n : slots[i]) {
      sum.all += n.all;
      sum.kept += n.kept;
    }
    if (sum.kept > 0)
      s.models[i].factor =
          static_cast<float>(static_cast<double>(s.models[i].weight) * sum.all / sum.kept);
    if (remembered[i]) s.models[i].mask = std::move(remembered[i]);
  }
}

// The models that contribute, and the divisor where no election decides it.
std::unique_ptr<GtaSurvey> begin_survey(const GtaStyle& style, const TensorTask& task) {
  auto s = std::make_unique<GtaSurvey>();
  s->elect_signs = style.elect_signs;
  s->normalize = task.flag("normalize");
  s->lambda = static_cast<float>(task["lambda"]);
  double weights = 0;
  for (size_t i = 0; i < task.models.size(); ++i) {
    const ModelParameters& m = task.models[i];
    weights += m["weight"];
    const bool empty = style.sparsifier != Sparsifier::kNone && m["density"] <= 0;
    const auto weight = static_cast<float>(m["weight"]);
    if (weight == 0 || empty) continue;
    s->models.push_back({i, weight, weight, nullptr});
    s->weights.push_back(weight);
  }
  if (s->normalize && !s->elect_signs && std::abs(weights) >= 1e-8)
    s->divisor = static_cast<float>(weights);
  return s;
}

// A result that is known without arithmetic: no model, or one whole model with factor 1.
std::optional<int> copy_of(const GtaSurvey& s) {
  if (s.models.empty() || s.lambda == 0) return Survey::kBaseItself;
  if (s.models.size() > 1 || s.models[0].mask) return std::nullopt;
  const bool cancels = s.elect_signs && s.normalize;  // weight * delta / weight
  if ((cancels ? 1 : s.models[0].weight / s.divisor) * s.lambda != 1) return std::nullopt;
  return static_cast<int>(s.models[0].index);
}

}  // namespace

namespace {

std::vector<std::unique_ptr<Mask>> masks_of(Sparsifier sparsifier, const TensorTask& task,
                                            std::span<const size_t> models, const ChunkPass& pass) {
  switch (sparsifier) {
    case Sparsifier::kNone:
      break;
    case Sparsifier::kMagnitude:
      return magnitude_masks(task, models, pass);
    case Sparsifier::kOutliers:
      return outlier_masks(task, models, pass);
    case Sparsifier::kRanked:
      return ranked_masks(task, models, pass);
    case Sparsifier::kRandom: {
      std::vector<std::unique_ptr<Mask>> masks;
      for (const size_t m : models) masks.push_back(random_mask(task.models[m]));
      return masks;
    }
  }
  return std::vector<std::unique_ptr<Mask>>(models.size());
}

}  // namespace

std::vector<MethodParameter> gta_parameters(Sparsifier sparsifier) {
  switch (sparsifier) {
    case Sparsifier::kNone:
      return {{"weight"}};
    case Sparsifier::kOutliers:
      return {{"weight"}, {"density", 1}, {"gamma", 0.01}};
    case Sparsifier::kRanked:
      return {{"weight"}, {"density", 1}, {"epsilon", 0.15}};
    default:
      return {{"weight"}, {"density", 1}};
  }
}

std::unique_ptr<Survey> gta_survey(const GtaStyle& style, const TensorTask& task,
                                   const ChunkPass& pass) {
  auto s = begin_survey(style, task);
  if (s->lambda != 0) {
    std::vector<size_t> indices;
    for (const ActiveModel& m : s->models) indices.push_back(m.index);
    auto masks = masks_of(style.sparsifier, task, indices, pass);
    for (size_t i = 0; i < masks.size(); ++i) s->models[i].mask = std::move(masks[i]);
  }
  s->copy_of = copy_of(*s);
  if (!s->copy_of && task.flag("rescale")) rescale(*s, task, pass);
  return s;
}

namespace {

// A model's part of a chunk: as a mask by magnitude, or weighted already in `room`.
MaskedDelta masked_delta(const ActiveModel& m, const Chunk& chunk, std::span<float> room) {
  MaskedDelta d = {chunk.models[m.index].data(), chunk.base.data(), 0, kAllMagnitudes, m.factor};
  if (!m.mask || m.mask->one_range(chunk.first, room.size(), d.low, d.width)) {
    d.ahead = chunk.take_ahead(m.index);
    return d;
  }
  weigh(m, chunk, m.factor, room);
  return {room.data(), kZeros, 0, kAllMagnitudes, 1};
}

}  // namespace

void gta_blend(const TensorTask&, const Survey& survey, const Chunk& chunk, std::span<float> out) {
  const auto& s = static_cast<const GtaSurvey&>(survey);
  const size_t n = out.size(), models = s.models.size();
  const Combining how = {s.elect_signs, s.normalize, s.divisor, s.lambda};
  const auto row = [&](size_t i) { return chunk.scratch.subspan(i * n, n); };
  if (models == 2) {
    combine_two(masked_delta(s.models[0], chunk, row(0)), masked_delta(s.models[1], chunk, row(1)),
                s.weights.data(), how, chunk.base.data(), n, out.data());
    return;
  }
  for (size_t i = 0; i < models; ++i) weigh(s.models[i], chunk, s.models[i].factor, row(i));
  combine_many(chunk.scratch.data(), s.weights.data(), models, how.elect, how.normalize,
               how.divisor, how.lambda, chunk.base.data(), n, out.data());
}

void gta_trim(const TensorTask&, const Survey& survey, const Chunk& chunk, std::span<float> rows) {
  const auto& s = static_cast<const GtaSurvey&>(survey);
  const size_t n = chunk.size();
  std::ranges::fill(rows, 0.0f);
  if (s.copy_of == Survey::kBaseItself) return;
  for (const ActiveModel& m : s.models) weigh(m, chunk, 1, rows.subspan(m.index * n, n));
}

}  // namespace lewis
