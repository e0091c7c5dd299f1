// della_linear: della without sign election (arXiv 2406.11617).
#include "merge/gta.h"

namespace lewis {

static constexpr GtaStyle kStyle = {.sparsifier = Sparsifier::kRanked, .rescale = true};
extern const MergeMethod kDellaLinear = gta_method<kStyle>("della_linear");

}  // namespace lewis
