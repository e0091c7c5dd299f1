// sce: Select the entries in which the models differ most, Calculate a weight for each model from
// the size of what is left, Erase what disagrees in sign (Wan et al., "FuseChat", arXiv 2408.07990,
// section 3.3).
#include <algorithm>
#include <cmath>

#include "merge/common/gram.h"
#include "merge/selection/top_k.h"

namespace lewis {
namespace {

struct SceSurvey : Survey {
  bool select = false, nothing = false;
  TopK top;                     // by variance, if select
  std::vector<double> weights;  // per model, of sum 1
};

// Population variance over the models of each entry of the task vectors.
LEWIS_VECTORIZED void variance_of_many(const float* deltas, size_t models, size_t n,
                                       float* variance) {
  double mean[kChunkElements] = {}, squares[kChunkElements] = {};
  const double share = 1 / static_cast<double>(models);
  for (size_t m = 0; m < models; ++m) {
    for (size_t i = 0; i < n; ++i) mean[i] += share * static_cast<double>(deltas[m * n + i]);
  }
  for (size_t m = 0; m < models; ++m) {
    for (size_t i = 0; i < n; ++i) {
      const double d = static_cast<double>(deltas[m * n + i]) - mean[i];
      squares[i] += share * d * d;
    }
  }
  for (size_t i = 0; i < n; ++i) variance[i] = static_cast<float>(squares[i]);
}

// The same arithmetic for two models, in registers.
LEWIS_VECTORIZED void variance_of_two(const float* a, const float* b, size_t n, float* variance) {
  for (size_t i = 0; i < n; ++i) {
    const auto x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    const double mean = 0.5 * x + 0.5 * y, from_x = x - mean, from_y = y - mean;
    variance[i] = static_cast<float>(0.5 * from_x * from_x + 0.5 * from_y * from_y);
  }
}

void variance_of(const float* deltas, size_t models, size_t n, float* variance) {
  if (models == 2) return variance_of_two(deltas, deltas + n, n, variance);
  variance_of_many(deltas, models, n, variance);
}

LEWIS_VECTORIZED size_t count_nonzero(const float* x, size_t n) {
  uint32_t count = 0;
  for (size_t i = 0; i < n; ++i) count += static_cast<uint32_t>(magnitude_bits(x[i]) != 0);
  return count;
}

void task_vectors(const Chunk& chunk) {
  for (size_t m = 0; m < chunk.models.size(); ++m) {
    task_vector(chunk, m, chunk.scratch.data() + m * chunk.size());
  }
}

void variances(const Chunk& chunk, float* values) {
  task_vectors(chunk);
  variance_of(chunk.scratch.data(), chunk.models.size(), chunk.size(), values);
}

// The task vectors in chunk.scratch, zero where they are not selected.
void selected(const SceSurvey& s, const Chunk& chunk) {
  task_vectors(chunk);
  if (!s.select) return;
  float variance[kChunkElements];
  variance_of(chunk.scratch.data(), chunk.models.size(), chunk.size(), variance);
  for (size_t m = 0; m < chunk.models.size(); ++m) {
    keep_top(s.top, chunk.first, {variance, chunk.size()},
             chunk.scratch.subspan(m * chunk.size(), chunk.size()));
  }
}

void select_entries(const TensorTask& task, const ChunkPass& pass, SceSurvey& s) {
  const double share = task["select_topk"];
  if (share >= 1) return;
  std::vector<int64_t> counts(pass.slots());
  pass.run_all([&](size_t slot, const Chunk& chunk) {
    float variance[kChunkElements];
    variances(chunk, variance);
    counts[slot] += static_cast<int64_t>(count_nonzero(variance, chunk.size()));
  });
  int64_t differing = 0;
  for (const int64_t c : counts) differing += c;
  const auto k = static_cast<int64_t>(static_cast<double>(differing) * std::max(0.0, share));
  s.select = true;
  s.nothing = k == 0;
  const ValueFn values[] = {[](const Chunk& chunk, float* room) {
    variances(chunk, room);
    return Differences{room, kZeros};
  }};
  const TopKQuery query[] = {{0, k}};
  if (k > 0) s.top = find_top_k(pass, values, query, task.count)[0];
}

// Each model's share of the squares of all selected entries; equal shares when there are none.
void calculate_weights(const ChunkPass& pass, SceSurvey& s) {
  const size_t models = s.weights.size();
  std::vector<double> slots(pass.slots() * models);
  pass.run_all([&](size_t slot, const Chunk& chunk) {
    selected(s, chunk);
    for (size_t m = 0; m < models; ++m) {
      const float* delta = chunk.scratch.data() + m * chunk.size();
      slots[slot * models + m] += dot_product(delta, delta, chunk.size());
    }
  });
  double all = 0;
  for (size_t i = 0; i < slots.size(); ++i) {
    s.weights[i % models] += slots[i];
    all += slots[i];
  }
  for (double& w : s.weights) w = all > 0 ? w / all : 1 / static_cast<double>(models);
}

std::unique_ptr<Survey> survey(const TensorTask& task, const ChunkPass& pass) {
  auto s = std::make_unique<SceSurvey>();
  s->weights.resize(task.models.size());
  select_entries(task, pass, *s);
  if (s->nothing) {
    s->copy_of = Survey::kBaseItself;
  } else if (task.models.size() == 1 && !s->select) {
    s->copy_of = 0;
  } else {
    calculate_weights(pass, *s);
  }
  return s;
}

[[gnu::always_inline]] inline float add_mean(float base, double mixed, double divisor) {
  const auto delta = static_cast<float>(mixed / (divisor < 1e-6 ? 1e-6 : divisor));
  return delta == 0 ? base : base + delta;
}

// Takes the weighted mean of the deltas that have the sign of their sum.
LEWIS_VECTORIZED void erase_and_mean_many(const float* deltas, const double* weights, size_t models,
                                          const float* base, size_t n, float* out) {
  double sign[kChunkElements] = {}, mixed[kChunkElements] = {}, divisor[kChunkElements] = {};
  for (size_t m = 0; m < models; ++m) {
    for (size_t i = 0; i < n; ++i) sign[i] += static_cast<double>(deltas[m * n + i]);
  }
  for (size_t i = 0; i < n; ++i) sign[i] = sign[i] >= 0 ? 1.0 : -1.0;
  for (size_t m = 0; m < models; ++m) {
    const double weight = weights[m];
    for (size_t i = 0; i < n; ++i) {
      const auto value = static_cast<double>(deltas[m * n + i]);
      const bool counts = value * sign[i] > 0;
      mixed[i] += counts ? value * weight : 0.0;
      divisor[i] += counts ? weight : 0.0;
    }
  }
  for (size_t i = 0; i < n; ++i) out[i] = add_mean(base[i], mixed[i], divisor[i]);
}

// The same arithmetic for two models, in registers.
LEWIS_VECTORIZED void erase_and_mean_two(const float* a, const float* b, double weight_a,
                                         double weight_b, const float* base, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) {
    const auto x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    const double sign = x + y >= 0 ? 1.0 : -1.0;
    const bool counts_a = x * sign > 0, counts_b = y * sign > 0;
    const double mixed = (counts_a ? x * weight_a : 0.0) + (counts_b ? y * weight_b : 0.0);
    const double divisor = (counts_a ? weight_a : 0.0) + (counts_b ? weight_b : 0.0);
    out[i] = add_mean(base[i], mixed, divisor);
  }
}

void erase_and_mean(const float* deltas, std::span<const double> weights, const float* base,
                    size_t n, float* out) {
  if (weights.size() == 2) {
    return erase_and_mean_two(deltas, deltas + n, weights[0], weights[1], base, n, out);
  }
  erase_and_mean_many(deltas, weights.data(), weights.size(), base, n, out);
}

void blend(const TensorTask&, const Survey& survey, const Chunk& chunk, std::span<float> out) {
  const auto& s = static_cast<const SceSurvey&>(survey);
  selected(s, chunk);
  erase_and_mean(chunk.scratch.data(), s.weights, chunk.base.data(), out.size(), out.data());
}

}  // namespace

extern const MergeMethod kSce = {
    .name = "sce",
    .base = BaseRole::kApart,
    .about =
        "Selects the entries in which the models differ most, calculates a weight for each model "
        "from the size of what is left of its task vector, and erases the entries that disagree in "
        "sign.",
    .paper = "Wan et al., \"FuseChat\", arXiv 2408.07990, section 3.3",
    .whole_parameters = {{"select_topk", 1}, {"int8_mask", 0}},
    .survey = survey,
    .blend = blend};

}  // namespace lewis
