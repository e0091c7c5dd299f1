// breadcrumbs: task vectors without their largest and smallest entries (Davari and Belilovsky,
// "Model breadcrumbs", arXiv 2312.06795).
#include "merge/common/gta.h"

namespace lewis {

static constexpr GtaStyle kStyle = {.sparsifier = Sparsifier::kOutliers};
extern const MergeMethod kBreadcrumbs = gta_method<kStyle>(
    "breadcrumbs", "Adds up the task vectors without their largest and their smallest entries.",
    "Davari and Belilovsky, \"Model breadcrumbs\", arXiv 2312.06795");

}  // namespace lewis
