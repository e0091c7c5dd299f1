// dare_linear: random entries of each task vector, rescaled, added up (Yu et al., "Language models
// are super Mario", arXiv 2311.03099).
#include "merge/common/gta.h"

namespace lewis {

static constexpr GtaStyle kStyle = {.sparsifier = Sparsifier::kRandom, .rescale = true};
extern const MergeMethod kDareLinear = gta_method<kStyle>(
    "dare_linear",
    "Keeps random entries of each task vector, rescales them and adds the task vectors up.",
    "Yu et al., \"Language models are super Mario\", arXiv 2311.03099");

}  // namespace lewis
