// ties: the largest entries of each task vector, sign election, mean of those that agree (Yadav et
// al., "TIES-Merging", arXiv 2306.01708).
#include "merge/common/gta.h"

namespace lewis {

static constexpr GtaStyle kStyle = {
    .sparsifier = Sparsifier::kMagnitude, .elect_signs = true, .normalize = true};
extern const MergeMethod kTies =
    gta_method<kStyle>("ties",
                       "Keeps the largest entries of each task vector, elects a sign for each "
                       "entry and takes the weighted mean of the values that agree with it.",
                       "Yadav et al., \"TIES-Merging\", arXiv 2306.01708");

}  // namespace lewis
