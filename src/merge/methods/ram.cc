// ram and ramplus_tl: entries that one model alone changed are added whole, those that several
// changed are averaged; ramplus_tl makes a model's own entries larger where it shares many. As
// mergekit has them.
#include <algorithm>
#include <cmath>

#include "merge/selection/top_k.h"

namespace lewis {
namespace {

struct RamSurvey : Survey {
  std::vector<float> own;  // per model: factor of the entries that it alone changed
};

// As a mask of bits: std::abs and comparisons of floats in one loop defeat the vectoriser.
[[gnu::always_inline]] inline uint32_t is_changed(float delta, uint32_t epsilon) {
  return static_cast<uint32_t>(magnitude_bits(delta) > epsilon);
}

// epsilon as magnitude_bits.
uint32_t threshold(const TensorTask& task) {
  return magnitude_bits(static_cast<float>(task["epsilon"]));
}

// deltas: [models, n]. changed[i]: how many models changed entry i.
LEWIS_VECTORIZED void count_changed(const float* deltas, size_t models, size_t n, uint32_t epsilon,
                                    uint32_t* changed) {
  for (size_t i = 0; i < n; ++i) changed[i] = 0;
  for (size_t m = 0; m < models; ++m) {
    const float* delta = deltas + m * n;
    for (size_t i = 0; i < n; ++i) changed[i] += is_changed(delta[i], epsilon);
  }
}

void read_deltas(const Chunk& chunk, uint32_t epsilon, uint32_t* changed) {
  for (size_t m = 0; m < chunk.models.size(); ++m) {
    task_vector(chunk, m, chunk.scratch.data() + m * chunk.size());
  }
  count_changed(chunk.scratch.data(), chunk.models.size(), chunk.size(), epsilon, changed);
}

std::unique_ptr<RamSurvey> plain_survey(const TensorTask& task) {
  auto s = std::make_unique<RamSurvey>();
  s->own.assign(task.models.size(), 1.0f);
  return s;
}

std::unique_ptr<Survey> survey_ram(const TensorTask& task, const ChunkPass&) {
  return plain_survey(task);
}

struct Overlap {
  int64_t shared = 0, own = 0;
};

LEWIS_VECTORIZED Overlap count_overlap(const float* delta, const uint32_t* changed, size_t n,
                                       uint32_t epsilon) {
  uint32_t shared = 0, own = 0;
  for (size_t i = 0; i < n; ++i) {
    const auto mine = is_changed(delta[i], epsilon);
    shared += mine & static_cast<uint32_t>(changed[i] > 1);
    own += mine & static_cast<uint32_t>(changed[i] == 1);
  }
  return {shared, own};
}

// factor = 1 + r * min(shared / own, alpha)
std::unique_ptr<Survey> survey_ramplus(const TensorTask& task, const ChunkPass& pass) {
  auto s = plain_survey(task);
  const size_t models = task.models.size();
  const uint32_t epsilon = threshold(task);
  std::vector<Overlap> slots(pass.slots() * models);
  pass.run_all([&](size_t slot, const Chunk& chunk) {
    uint32_t changed[kChunkElements];
    read_deltas(chunk, epsilon, changed);
    for (size_t m = 0; m < models; ++m) {
      const Overlap o =
          count_overlap(chunk.scratch.data() + m * chunk.size(), changed, chunk.size(), epsilon);
      slots[slot * models + m].shared += o.shared;
      slots[slot * models + m].own += o.own;
    }
  });
  for (size_t m = 0; m < models; ++m) {
    Overlap sum;
    for (size_t i = m; i < slots.size(); i += models) {
      sum.shared += slots[i].shared;
      sum.own += slots[i].own;
    }
    if (sum.own == 0) continue;
    const double ratio = static_cast<double>(sum.shared) / static_cast<double>(sum.own);
    const double factor = 1 + task["r"] * std::clamp(ratio, 0.0, task["alpha"]);
    s->own[m] = static_cast<float>(factor);
  }
  return s;
}

// yes or no, as masks of bits: a choice between floats becomes branches.
[[gnu::always_inline]] inline float choose(bool condition, float yes, float no) {
  const uint32_t mask = 0u - static_cast<uint32_t>(condition);
  return std::bit_cast<float>((std::bit_cast<uint32_t>(yes) & mask) |
                              (std::bit_cast<uint32_t>(no) & ~mask));
}

LEWIS_VECTORIZED void add_model(const float* delta, const uint32_t* changed, float own, size_t n,
                                uint32_t epsilon, double* sum) {
  for (size_t i = 0; i < n; ++i) {
    const float kept = choose(magnitude_bits(delta[i]) > epsilon, delta[i], 0.0f);
    sum[i] += static_cast<double>(choose(changed[i] == 1, own, 1.0f)) * static_cast<double>(kept);
  }
}

LEWIS_VECTORIZED void average(const double* sum, const uint32_t* changed, const float* base,
                              size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) {
    const auto several = static_cast<float>(std::max(static_cast<int32_t>(changed[i]), 1));
    const float delta = static_cast<float>(sum[i]) / several;
    out[i] = choose(delta == 0, base[i], base[i] + delta);
  }
}

void blend(const TensorTask& task, const Survey& survey, const Chunk& chunk, std::span<float> out) {
  const auto& s = static_cast<const RamSurvey&>(survey);
  uint32_t changed[kChunkElements];
  read_deltas(chunk, threshold(task), changed);
  double sum[kChunkElements];
  std::fill_n(sum, out.size(), 0.0);
  for (size_t m = 0; m < s.own.size(); ++m) {
    add_model(chunk.scratch.data() + m * out.size(), changed, s.own[m], out.size(), threshold(task),
              sum);
  }
  average(sum, changed, chunk.base.data(), out.size(), out.data());
}

}  // namespace

extern const MergeMethod kRam = {.name = "ram",
                                 .base = BaseRole::kApart,
                                 .about =
                                     "Adds the entries of the task vectors that one model alone "
                                     "changed, and the means of those that several changed.",
                                 .whole_parameters = {{"epsilon", 1e-5}},
                                 .survey = survey_ram,
                                 .blend = blend};

extern const MergeMethod kRamplusTl = {
    .name = "ramplus_tl",
    .base = BaseRole::kApart,
    .about =
        "As `ram`; the entries that a model alone changed grow where it shares many others: times "
        "1 + r min(shared / own, alpha).",
    .whole_parameters = {{"epsilon", 1e-5}, {"r", 0.1}, {"alpha", 0.2}},
    .survey = survey_ramplus,
    .blend = blend};

}  // namespace lewis
