// della: entries kept at random, larger ones more likely, rescaled, with sign election (Deep et
// al., "DELLA-Merging", arXiv 2406.11617).
#include "merge/gta.h"

namespace lewis {

static constexpr GtaStyle kStyle = {
    .sparsifier = Sparsifier::kRanked, .elect_signs = true, .normalize = true, .rescale = true};
extern const MergeMethod kDella = gta_method<kStyle>("della");

}  // namespace lewis
