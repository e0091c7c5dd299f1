// linear: the weighted mean of the models, or their weighted sum with normalize: false (Wortsman
// et al., "Model soups", arXiv 2203.05482).
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "merge/common/double_sums.h"
#include "merge/method.h"

namespace lewis {
namespace {

struct LinearSurvey : Survey {
  std::vector<float> weights;  // per model
  float divisor = 1;
  // With double_sums these count: models in the order of their names, those with a weight.
  struct Term {
    size_t model = 0, rank = 0;  // its place in that order
    double weight = 0;
  };
  bool double_sums = false;
  std::vector<Term> terms;
  double sum = 1;  // of the weights; 1 where it does not divide
};

void prepare_double_sums(const TensorTask& task, LinearSurvey& s) {
  s.double_sums = true;
  double sum = 0;
  for (size_t rank = 0; rank < task.models.size(); ++rank) {
    const size_t model = task.by_name.empty() ? rank : task.by_name[rank];
    const double weight = exact_weight(task.models[model]["weight"]);
    if (weight != 0) s.terms.push_back({model, rank, weight});
    sum += weight;
  }
  if (task.flag("normalize")) s.sum = sum;
}

std::unique_ptr<Survey> survey(const TensorTask& task, const ChunkPass&) {
  auto s = std::make_unique<LinearSurvey>();
  double sum = 0;
  size_t active = 0, last = 0;
  for (size_t i = 0; i < task.models.size(); ++i) {
    const double weight = task.models[i]["weight"];
    s->weights.push_back(static_cast<float>(weight));
    sum += weight;
    if (weight != 0) {
      ++active;
      last = i;
    }
  }
  if (task.flag("normalize")) {
    if (std::abs(sum) < 1e-8) {
      throw usage_error(
          "tensor {}: the weights of linear add up to {}, and normalize divides by it", task.name,
          sum);
    }
    s->divisor = static_cast<float>(sum);
  }
  if (task.flag("double_sums")) prepare_double_sums(task, *s);
  if (active == 1 && s->weights[last] == s->divisor) s->copy_of = static_cast<int>(last);
  return s;
}

LEWIS_VECTORIZED void scale(const float* x, float weight, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = weight * x[i];
}
LEWIS_VECTORIZED void scale_add(const float* x, float weight, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] += weight * x[i];
}
LEWIS_VECTORIZED void divide(float divisor, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] /= divisor;
}

const LinearSurvey& of_linear(const Survey* survey) {
  return static_cast<const LinearSurvey&>(*survey);
}

// The terms of a few surveys, each model once.
SumTerms terms_of(std::span<const Survey* const> surveys, const Chunk& chunk) {
  std::vector<std::array<double, kSumsTogether>> weights(chunk.models.size());
  std::vector<const float*> inputs(chunk.models.size());
  SumTerms terms;
  for (size_t k = 0; k < surveys.size(); ++k) {
    const LinearSurvey& s = of_linear(surveys[k]);
    for (const LinearSurvey::Term& t : s.terms) {
      inputs[t.rank] = chunk.models[t.model].data();
      weights[t.rank][k] = t.weight;
    }
    terms.divisors[k] = s.sum;
  }
  for (size_t rank = 0; rank < inputs.size(); ++rank) {
    if (!inputs[rank]) continue;
    terms.inputs.push_back(inputs[rank]);
    terms.weights.push_back(weights[rank]);
  }
  return terms;
}

// Asks for what follows in the models while it adds: all at once would stall the prefetching.
void add_with_prefetch(const SumTerms& terms, const Chunk& chunk, std::span<float* const> out) {
  constexpr size_t kPiece = 32;
  const size_t n = chunk.size(), pieces = (n + kPiece - 1) / kPiece, models = chunk.ahead.size();
  for (size_t piece = 0; piece < pieces; ++piece) {
    add_terms(terms, piece * kPiece, std::min(n, (piece + 1) * kPiece), out);
    const size_t end = models * (piece + 1) / pieces;
    for (size_t m = models * piece / pieces; m < end; ++m) chunk.take_ahead(m).ask(0, n);
  }
}

void blend_all(std::span<const Survey* const> surveys, const Chunk& chunk, std::span<float> out) {
  const size_t n = chunk.size();
  for (size_t first = 0; first < surveys.size(); first += kSumsTogether) {
    const auto some = surveys.subspan(first, std::min(kSumsTogether, surveys.size() - first));
    float* into[kSumsTogether];
    for (size_t k = 0; k < some.size(); ++k) into[k] = out.data() + (first + k) * n;
    add_with_prefetch(terms_of(some, chunk), chunk, {into, some.size()});
  }
}

void blend(const TensorTask&, const Survey& survey, const Chunk& chunk, std::span<float> out) {
  const LinearSurvey& s = of_linear(&survey);
  if (s.double_sums) {
    const Survey* one = &survey;
    return blend_all({&one, 1}, chunk, out);
  }
  scale(chunk.models[0].data(), s.weights[0], out.size(), out.data());
  for (size_t i = 1; i < chunk.models.size(); ++i) {
    scale_add(chunk.models[i].data(), s.weights[i], out.size(), out.data());
  }
  if (s.divisor != 1) divide(s.divisor, out.size(), out.data());
}

}  // namespace

extern const MergeMethod kLinear = {
    .name = "linear",
    .base = BaseRole::kWeighted,
    .about = "The weighted mean of the models, or their weighted sum with `normalize: false`.",
    .paper = "Wortsman et al., \"Model soups\", arXiv 2203.05482",
    .model_parameters = {{"weight"}},
    .whole_parameters = {{"normalize", 1}, {"double_sums", 0}},
    .survey = survey,
    .blend = blend,
    .blend_all = blend_all};

}  // namespace lewis
