// della_linear: della without sign election (arXiv 2406.11617).
#include "merge/common/gta.h"

namespace lewis {

static constexpr GtaStyle kStyle = {.sparsifier = Sparsifier::kRanked, .rescale = true};
extern const MergeMethod kDellaLinear =
    gta_method<kStyle>("della_linear",
                       "Keeps random entries of each task vector, larger ones with a higher "
                       "probability, rescales them and adds the task vectors up.",
                       "Deep et al., \"DELLA-Merging\", arXiv 2406.11617");

}  // namespace lewis
