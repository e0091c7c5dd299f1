// resmerge: what remains of the task vectors without their largest singular direction (the head) is
// averaged on a sphere; the heads come back as far as they agree (Sun et al., "ResMerge", arXiv
// 2606.02252, section 4).
#include <algorithm>
#include <cmath>

#include "merge/common/gram.h"
#include "merge/common/task_matrices.h"

namespace lewis {
namespace {

// sum += factor value u v^T.
void add_head(const SingularTriple& head, double factor, DoubleMatrix& sum) {
  for (int64_t r = 0; r < sum.rows; ++r) {
    const double u = factor * head.value * head.u[static_cast<size_t>(r)];
    for (int64_t c = 0; c < sum.columns; ++c) sum.at(r, c) += u * head.v[static_cast<size_t>(c)];
  }
}

// Takes the head out of a task vector. What rounding leaves of one that has no other direction is
// nothing.
void make_residual(const SingularTriple& head, DoubleMatrix& tau) {
  add_head(head, -1, tau);
  if (std::sqrt(inner_product(tau.values, tau.values)) < 0x1p-24 * head.value)
    std::ranges::fill(tau.values, 0);
}

Gram gram_of(const std::vector<DoubleMatrix>& matrices) {
  Gram gram(matrices.size());
  for (size_t i = 0; i < matrices.size(); ++i) {
    for (size_t j = 0; j <= i; ++j)
      gram.at(i, j) = gram.at(j, i) = inner_product(matrices[i].values, matrices[j].values);
  }
  return gram;
}

Gram gram_of(const std::vector<SingularTriple>& heads) {
  Gram gram(heads.size());
  for (size_t i = 0; i < heads.size(); ++i) {
    for (size_t j = 0; j < heads.size(); ++j) {
      gram.at(i, j) = heads[i].value * heads[j].value * inner_product(heads[i].u, heads[j].u) *
                      inner_product(heads[i].v, heads[j].v);
    }
  }
  return gram;
}

// The mean of f(cosine) over all pairs of vectors that are not zero; 1 without a pair.
template <typename F>
double mean_over_pairs(const Gram& gram, bool with_zeros, const F& f) {
  double sum = 0, pairs = 0;
  for (size_t i = 0; i < gram.size(); ++i) {
    for (size_t j = i + 1; j < gram.size(); ++j) {
      if (!with_zeros && (gram.at(i, i) == 0 || gram.at(j, j) == 0)) continue;
      sum += f(gram.cosine(i, j));
      ++pairs;
    }
  }
  return pairs == 0 ? 1 : sum / pairs;
}

// The layers for which the authors lower the exponent where the residuals agree.
bool is_attention_or_feed_forward(std::string_view name) {
  constexpr std::string_view kParts[] = {"attn",         "attention", "q_proj",  "k_proj",
                                         "v_proj",       "o_proj",    "mlp",     "ffn",
                                         "feed_forward", "gate_proj", "up_proj", "down_proj"};
  return std::ranges::any_of(
      kParts, [&](std::string_view part) { return name.find(part) != std::string_view::npos; });
}

// The factors of the residuals in their consensus: the direction of the sum of the residuals of
// unit length, times c^beta times the mean of their lengths, where c, the coherence, is the length
// of the mean of the residuals of unit length. Where they agree no more than random vectors would,
// it is their mean.
std::vector<double> consensus(const TensorTask& task, const Gram& gram) {
  const auto n = static_cast<double>(gram.size());
  std::vector<double> units(gram.size());
  double lengths = 0;
  for (size_t i = 0; i < gram.size(); ++i) {
    if (gram.norm(i) > 0) units[i] = 1 / gram.norm(i);
    lengths += gram.norm(i) / n;
  }
  const double length = gram.norm_of(units), coherence = std::min(1.0, length / n);
  if (coherence <= 1 / std::sqrt(n)) return std::vector<double>(gram.size(), 1 / n);
  const double similarity = mean_over_pairs(gram, true, [](double cosine) { return cosine; });
  const double agreement = ((similarity + 1) / 2 + (coherence + 1) / 2) / 2;
  const double score =
      is_attention_or_feed_forward(task.name) ? std::clamp(agreement, 0.0, 1.0) : 0;
  const double beta = task["beta_max"] - (task["beta_max"] - task["beta_min"]) * score;
  for (double& unit : units) unit *= std::pow(coherence, beta) * lengths / length;
  return units;
}

DoubleMatrix merge(const TensorTask& task, std::vector<DoubleMatrix> tau, Threads& threads) {
  std::vector<SingularTriple> heads;
  for (DoubleMatrix& t : tau) {
    heads.push_back(leading_singular_vectors(t, threads));
    make_residual(heads.back(), t);
  }
  const Gram residuals = gram_of(tau), of_heads = gram_of(heads);
  const std::vector<double> factors = consensus(task, residuals);
  DoubleMatrix merged(tau[0].rows, tau[0].columns);
  for (size_t m = 0; m < tau.size(); ++m) add_to(tau[m], factors[m], merged);
  const double agreement =
      mean_over_pairs(of_heads, false, [](double cosine) { return std::max(0.0, cosine); });
  const double length = of_heads.norm_of(std::vector<double>(heads.size(), 1));
  if (length == 0) return merged;
  const double scale = task["head_ratio"] * agreement * residuals.norm_of(factors) / length;
  for (const SingularTriple& head : heads) add_head(head, scale, merged);
  return merged;
}

}  // namespace

extern const MergeMethod kResmerge = {
    .name = "resmerge",
    .base = BaseRole::kApart,
    .min_models = 2,
    .about =
        "Takes the largest singular direction (the head) out of each task vector of a linear "
        "layer, averages the directions of what remains, shortened by how far they agree, and adds "
        "the mean of the heads with `head_ratio` of its length, as far as the heads agree. In "
        "other tensors, embeddings and head among them, the task vectors are averaged.",
    .paper = "Sun et al., \"ResMerge\", arXiv 2606.02252, section 4",
    .model_parameters = {{"weight", 1}},
    .whole_parameters = {{"beta_min", 0.7}, {"beta_max", 1}, {"head_ratio", 0.2}, {"lambda", 1}},
    .survey = survey_matrices<merge>,
    .blend = blend_matrices,
    .matrices_held = [](size_t models) { return models + 3; }};

}  // namespace lewis
