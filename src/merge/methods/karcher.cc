// karcher: the Riemannian centre of mass of the models' directions on the sphere (Karcher 1977),
// with the mean of their lengths. Found by steps in the tangent space; every iterate is a
// combination of the models, so that only their Gram matrix is needed.
#include <algorithm>
#include <cmath>

#include "merge/common/gram.h"

namespace lewis {
namespace {

bool normalize(const Gram& gram, std::vector<double>& c) {
  const double length = gram.norm_of(c);
  if (length < 1e-12) return false;
  for (double& value : c) value /= length;
  return true;
}

// One step towards the centre; returns its length.
double step(const Gram& gram, std::span<const size_t> points, double tol, std::vector<double>& u) {
  const double share = 1 / static_cast<double>(points.size());
  std::vector<double> tangent(u.size());
  for (const size_t i : points) {
    const double dot = std::clamp(gram.dot(i, u) / gram.norm(i), -1.0, 1.0);
    const double angle = std::acos(dot);
    if (angle < tol) continue;
    const double scale = share * angle / std::sin(angle);
    tangent[i] += scale / gram.norm(i);
    for (size_t j = 0; j < u.size(); ++j) tangent[j] -= scale * dot * u[j];
  }
  const double length = gram.norm_of(tangent);
  if (length < tol) return length;
  for (size_t j = 0; j < u.size(); ++j) {
    u[j] = std::cos(length) * u[j] + std::sin(length) * tangent[j] / length;
  }
  normalize(gram, u);
  return length;
}

std::vector<double> center(const TensorTask& task, const Gram& gram) {
  const double tol = task["tol"];
  std::vector<size_t> points;  // models that are not zero
  double lengths = 0;
  for (size_t i = 0; i < gram.size(); ++i) {
    if (gram.norm(i) > 0) points.push_back(i);
    lengths += gram.norm(i) / static_cast<double>(gram.size());
  }
  std::vector<double> u(gram.size());
  for (const size_t i : points) u[i] = 1 / gram.norm(i);
  if (points.empty()) return u;
  if (!normalize(gram, u)) {  // opposite directions: begin at the first
    std::fill(u.begin(), u.end(), 0.0);
    u[points[0]] = 1 / gram.norm(points[0]);
  }
  for (int i = 0; i < static_cast<int>(task["max_iter"]); ++i) {
    if (step(gram, points, tol, u) < tol) break;
  }
  for (double& c : u) c *= lengths;
  return u;
}

std::unique_ptr<Survey> survey(const TensorTask& task, const ChunkPass& pass) {
  auto s = combine_by_gram(task, pass, {}, center);
  if (task.models.size() == 1) s->copy_of = 0;
  return s;
}

}  // namespace

extern const MergeMethod kKarcher = {
    .name = "karcher",
    .base = BaseRole::kModel,
    .about =
        "The Riemannian centre of mass of the directions of the models on the sphere, with the "
        "mean of their lengths.",
    .paper = "Karcher, \"Riemannian center of mass and mollifier smoothing\", 1977",
    .whole_parameters = {{"max_iter", 10}, {"tol", 1e-5}},
    .survey = survey,
    .blend = blend_combination};

}  // namespace lewis
