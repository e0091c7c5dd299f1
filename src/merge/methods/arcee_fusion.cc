// arcee_fusion: takes over from the model what matters most and leaves the rest of the base (Arcee,
// "Arcee Fusion"). Importance of an entry: |model - base| times the divergence of the softmax of
// its row; taken over from median + 1.5 interquartile ranges on.
#include <algorithm>
#include <cmath>

#include "merge/rows.h"
#include "merge/top_k.h"

namespace lewis {
namespace {

constexpr double kEpsilon = 1e-8;  // added to probabilities

struct FusionSurvey : Survey {
  std::vector<float> divergence;  // per row
  float threshold = 0;
};

// log of the sum of exponentials, one piece after the other.
struct LogSum {
  double largest = -INFINITY, sum = 0;

  void add(std::span<const float> values) {
    const double here = *std::max_element(values.begin(), values.end());
    if (here > largest) {
      sum *= std::exp(largest - here);
      largest = here;
    }
    for (const float v : values) sum += std::exp(static_cast<double>(v) - largest);
  }
  double value() const { return largest + std::log(sum); }
};

// Kullback-Leibler divergence of the softmax of each row of the model from that of the base.
std::vector<float> divergences(const TensorTask& task, const ChunkPass& pass) {
  const auto rows = static_cast<size_t>(task.rows());
  std::vector<LogSum> model(rows), base(rows);
  pass.run_all([&](size_t, const Chunk& chunk) {
    for_rows(task, chunk, [&](int64_t row, size_t begin, size_t size) {
      model[static_cast<size_t>(row)].add(chunk.models[0].subspan(begin, size));
      base[static_cast<size_t>(row)].add(chunk.base.subspan(begin, size));
    });
  });
  std::vector<double> sums(rows);
  pass.run_all([&](size_t, const Chunk& chunk) {
    for_rows(task, chunk, [&](int64_t row, size_t begin, size_t size) {
      const auto r = static_cast<size_t>(row);
      const double a = model[r].value(), b = base[r].value();
      for (size_t i = begin; i < begin + size; ++i) {
        const double p = std::exp(static_cast<double>(chunk.models[0][i]) - a) + kEpsilon;
        const double q = std::exp(static_cast<double>(chunk.base[i]) - b) + kEpsilon;
        sums[r] += p * std::log(p / q);
      }
    });
  });
  std::vector<float> divergence;
  for (const double sum : sums) divergence.push_back(static_cast<float>(std::max(0.0, sum)));
  return divergence;
}

void importance(const TensorTask& task, const FusionSurvey& s, const Chunk& chunk, float* values) {
  task_vector(chunk, 0, values);
  for_rows(task, chunk, [&](int64_t row, size_t begin, size_t size) {
    const float divergence = s.divergence[static_cast<size_t>(row)];
    for (size_t i = begin; i < begin + size; ++i) values[i] = std::abs(values[i]) * divergence;
  });
}

std::unique_ptr<Survey> survey(const TensorTask& task, const ChunkPass& pass) {
  auto s = std::make_unique<FusionSurvey>();
  s->divergence = divergences(task, pass);
  // Quantiles without interpolation: of the sorted values that of index int(q * (n - 1)).
  std::vector<TopKQuery> queries;
  for (const double q : {0.25, 0.5, 0.75}) {
    const auto index = static_cast<int64_t>(q * static_cast<double>(task.count - 1));
    queries.push_back(
        {[&](const Chunk& c, float* v) { importance(task, *s, c, v); }, task.count - index});
  }
  if (task.count == 0) return s;
  const std::vector<TopK> found = find_top_k(pass, queries, task.count);
  const auto value = [&](size_t i) { return std::bit_cast<float>(found[i].threshold); };
  s->threshold = value(1) + 1.5f * (value(2) - value(0));
  return s;
}

void blend(const TensorTask& task, const Survey& survey, const Chunk& chunk, std::span<float> out) {
  const auto& s = static_cast<const FusionSurvey&>(survey);
  importance(task, s, chunk, out.data());
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = out[i] >= s.threshold ? chunk.models[0][i] : chunk.base[i];
  }
}

}  // namespace

extern const MergeMethod kArceeFusion = {.name = "arcee_fusion",
                                         .base = BaseRole::kApart,
                                         .max_models = 1,
                                         .survey = survey,
                                         .blend = blend,
                                         .row_wise = [](const TensorTask&) { return true; }};

}  // namespace lewis
