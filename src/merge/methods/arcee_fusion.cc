// arcee_fusion: takes over from the model what matters most and leaves the rest of the base (Arcee,
// "Arcee Fusion"). Importance of an entry: |model - base| times the divergence of the softmax of
// its row; taken over from median + 1.5 interquartile ranges on.
#include <algorithm>
#include <cmath>

#include "merge/common/elementary.h"
#include "merge/common/gram.h"
#include "merge/common/rows.h"
#include "merge/selection/top_k.h"

namespace lewis {
namespace {

constexpr double kEpsilon = 1e-8;  // added to probabilities

struct FusionSurvey : Survey {
  std::vector<float> divergence;  // per row
  float threshold = 0;
};

// As integers of the same order: the order of comparing floats is fixed, because of NaN.
LEWIS_VECTORIZED float largest_of(const float* x, size_t n) {
  int32_t largest = INT32_MIN;
  for (size_t i = 0; i < n; ++i) {
    const int32_t bits = std::bit_cast<int32_t>(x[i]);
    largest = std::max(largest, bits ^ ((bits >> 31) & 0x7fffffff));
  }
  return std::bit_cast<float>(largest ^ ((largest >> 31) & 0x7fffffff));
}

LEWIS_VECTORIZED void exponentials(const float* x, double largest, size_t n, double* out) {
  for (size_t i = 0; i < n; ++i) {
    const double below = static_cast<double>(x[i]) - largest;
    out[i] = plain_exp(below < -700 ? -700 : below);
  }
}

// e_p, e_q: exponentials, whose sums are the inverse of scale_p, scale_q. Overwrites e_p with the
// terms of the divergence.
LEWIS_VECTORIZED void divergence_terms(double* e_p, const double* e_q, double scale_p,
                                       double scale_q, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    const double p = e_p[i] * scale_p + kEpsilon, q = e_q[i] * scale_q + kEpsilon;
    e_p[i] = p * plain_log_ratio(p, q);
  }
}

// One row, and how much the softmax of the model's differs from that of the base's.
class Row {
 public:
  explicit Row(size_t columns) : model_(columns), base_(columns), p_(columns), q_(columns) {}

  // Returns whether the row is complete.
  bool add(std::span<const float> model, std::span<const float> base) {
    std::copy(model.begin(), model.end(), model_.data() + filled_);
    std::copy(base.begin(), base.end(), base_.data() + filled_);
    filled_ += model.size();
    return filled_ == model_.size();
  }
  // Kullback-Leibler divergence; begins the next row.
  double divergence() {
    filled_ = 0;
    const size_t n = p_.size();
    exponentials(model_.data(), static_cast<double>(largest_of(model_.data(), n)), n, p_.data());
    exponentials(base_.data(), static_cast<double>(largest_of(base_.data(), n)), n, q_.data());
    divergence_terms(p_.data(), q_.data(), 1 / sum_of(p_.data(), n), 1 / sum_of(q_.data(), n), n);
    return sum_of(p_.data(), n);
  }

 private:
  size_t filled_ = 0;
  std::vector<float> model_, base_;
  std::vector<double> p_, q_;
};

std::vector<float> divergences(const TensorTask& task, const ChunkPass& pass) {
  std::vector<float> divergence(static_cast<size_t>(task.rows()));
  SlotRooms<Row> rooms(pass.slots());
  pass.run_all([&](size_t slot, const Chunk& chunk) {
    Row& row = rooms.of(slot, [&] { return Row(static_cast<size_t>(task.columns())); });
    for_rows(task, chunk, [&](int64_t r, size_t begin, size_t size) {
      if (row.add(chunk.models[0].subspan(begin, size), chunk.base.subspan(begin, size))) {
        divergence[static_cast<size_t>(r)] = static_cast<float>(std::max(0.0, row.divergence()));
      }
    });
    if (chunk_ends_slot(task, pass, chunk)) rooms.release(slot);
  });
  return divergence;
}

LEWIS_VECTORIZED void scale_differences(const float* model, const float* base, float divergence,
                                        size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = std::abs(model[i] - base[i]) * divergence;
}

void importance(const TensorTask& task, const FusionSurvey& s, const Chunk& chunk, float* values) {
  for_rows(task, chunk, [&](int64_t row, size_t begin, size_t size) {
    scale_differences(chunk.models[0].data() + begin, chunk.base.data() + begin,
                      s.divergence[static_cast<size_t>(row)], size, values + begin);
  });
}

std::unique_ptr<Survey> survey(const TensorTask& task, const ChunkPass& pass) {
  auto s = std::make_unique<FusionSurvey>();
  s->divergence = divergences(task, pass);
  // Quantiles without interpolation: of the sorted values that of index int(q * (n - 1)).
  std::vector<TopKQuery> queries;
  for (const double q : {0.25, 0.5, 0.75}) {
    const auto index = static_cast<int64_t>(q * static_cast<double>(task.count - 1));
    queries.push_back({0, task.count - index});
  }
  if (task.count == 0) return s;
  const ValueFn values[] = {[&](const Chunk& c, float* room) {
    importance(task, *s, c, room);
    return Differences{room, kZeros};
  }};
  const std::vector<TopK> found = find_top_k(pass, values, queries, task.count);
  const auto value = [&](size_t i) { return std::bit_cast<float>(found[i].threshold); };
  s->threshold = value(1) + 1.5f * (value(2) - value(0));
  return s;
}

LEWIS_VECTORIZED void take_over(const float* model, const float* base, float threshold, size_t n,
                                float* out) {
  for (size_t i = 0; i < n; ++i) {  // choosing bits: a choice between floats becomes branches
    const uint32_t mask = 0u - static_cast<uint32_t>(out[i] >= threshold);
    out[i] = std::bit_cast<float>((std::bit_cast<uint32_t>(model[i]) & mask) |
                                  (std::bit_cast<uint32_t>(base[i]) & ~mask));
  }
}

void blend(const TensorTask& task, const Survey& survey, const Chunk& chunk, std::span<float> out) {
  const auto& s = static_cast<const FusionSurvey&>(survey);
  importance(task, s, chunk, out.data());
  take_over(chunk.models[0].data(), chunk.base.data(), s.threshold, out.size(), out.data());
}

}  // namespace

extern const MergeMethod kArceeFusion = {
    .name = "arcee_fusion",
    .base = BaseRole::kApart,
    .max_models = 1,
    .about =
        "The base with the entries of one model that matter most. The importance of an entry is "
        "its distance from the base times the divergence between the softmaxes of both rows; the "
        "entries from the median plus 1.5 interquartile ranges on are taken over.",
    .paper = "Arcee, \"Arcee Fusion\"; as in mergekit",
    .survey = survey,
    .blend = blend,
    .row_wise = [](const TensorTask&) { return true; }};

}  // namespace lewis
