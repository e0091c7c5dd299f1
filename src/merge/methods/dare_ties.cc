// dare_ties: random entries of each task vector, rescaled, with the sign election of TIES
// (arXiv 2311.03099 and 2306.01708).
#include "merge/gta.h"

namespace lewis {

static constexpr GtaStyle kStyle = {
    .sparsifier = Sparsifier::kRandom, .elect_signs = true, .rescale = true};
extern const MergeMethod kDareTies = gta_method<kStyle>("dare_ties");

}  // namespace lewis
