// della: entries kept at random, larger ones more likely, rescaled, with sign election (Deep et
// al., "DELLA-Merging", arXiv 2406.11617).
#include "merge/common/gta.h"

namespace lewis {

static constexpr GtaStyle kStyle = {
    .sparsifier = Sparsifier::kRanked, .elect_signs = true, .normalize = true, .rescale = true};
extern const MergeMethod kDella = gta_method<kStyle>(
    "della",
    "Keeps random entries of each task vector, larger ones with a higher probability, rescales "
    "them and takes the weighted mean of the values that agree with the elected sign.",
    "Deep et al., \"DELLA-Merging\", arXiv 2406.11617");

}  // namespace lewis
