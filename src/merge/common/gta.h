// Generalised task arithmetic: subtract the base, sparsify the task vectors, agree on signs, add
// up, add the base. Most methods are a choice among these steps.
#pragma once

#include "merge/method.h"

namespace lewis {

enum class Sparsifier {
  kNone,
  kMagnitude,  // the largest by magnitude (TIES: Yadav et al., arXiv 2306.01708, section 4)
  kOutliers,   // the largest but for the very largest (breadcrumbs)
  kRandom,     // each with probability density (DARE: Yu et al., arXiv 2311.03099)
  kRanked,     // each with a probability by its rank in its row (DELLA)
};

// Bounds and defaults of one method; `normalize` and `rescale` may be overridden by the recipe.
struct GtaStyle {
  Sparsifier sparsifier = Sparsifier::kNone;
  bool elect_signs = false;  // per element, only models that agree with the sign of the sum count
  bool normalize = false;    // divide by the weights that counted
  bool rescale = false;      // give each sparsified task vector its former L1 norm
};

// delta_i = sparsify(model_i - base); v_i = weight_i * delta_i. Without election the sum of all
// v_i; with it, sign = +1 where the sum is >= 0 and else -1, and only the v_i of that sign count (a
// zero never does). Divided by the sum of the weights that counted if normalize (a divisor near 0
// becomes 1), times lambda, plus base. Where the sum is 0 the base stays bit for bit.
std::unique_ptr<Survey> gta_survey(const GtaStyle& style, const TensorTask& task,
                                   const ChunkPass& pass);
void gta_blend(const TensorTask& task, const Survey& survey, const Chunk& chunk,
               std::span<float> out);
// MergeMethod::trim of all styles with a sparsifier.
void gta_trim(const TensorTask& task, const Survey& survey, const Chunk& chunk,
              std::span<float> rows);

// The parameters of each model that methods with this sparsifier read.
std::vector<MethodParameter> gta_parameters(Sparsifier sparsifier);

// The method of one style.
template <const GtaStyle& style>
MergeMethod gta_method(std::string_view name, std::string_view about, std::string_view paper) {
  MergeMethod method;
  method.name = name;
  method.about = about;
  method.paper = paper;
  method.base = BaseRole::kApart;
  method.model_parameters = gta_parameters(style.sparsifier);
  method.whole_parameters = {{"normalize", style.normalize ? 1 : 0},
                             {"rescale", style.rescale ? 1 : 0},
                             {"lambda", 1},
                             {"int8_mask", 0}};
  method.survey = [](const TensorTask& task, const ChunkPass& pass) {
    return gta_survey(style, task, pass);
  };
  method.blend = gta_blend;
  if (style.sparsifier != Sparsifier::kNone) method.trim = gta_trim;
  if (style.sparsifier == Sparsifier::kRanked)
    method.row_wise = [](const TensorTask&) { return true; };
  method.reads_trim_factors =
      style.sparsifier == Sparsifier::kMagnitude || style.sparsifier == Sparsifier::kOutliers;
  return method;
}

}  // namespace lewis
