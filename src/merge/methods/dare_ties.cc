// dare_ties: random entries of each task vector, rescaled, with the sign election of TIES
// (arXiv 2311.03099 and 2306.01708).
#include "merge/common/gta.h"

namespace lewis {

static constexpr GtaStyle kStyle = {
    .sparsifier = Sparsifier::kRandom, .elect_signs = true, .rescale = true};
extern const MergeMethod kDareTies = gta_method<kStyle>(
    "dare_ties",
    "Keeps random entries of each task vector, rescales them and adds up the values that agree "
    "with the elected sign.",
    "Yu et al., \"Language models are super Mario\", arXiv 2311.03099; signs: arXiv 2306.01708");

}  // namespace lewis
