// breadcrumbs: task vectors without their largest and smallest entries (Davari and Belilovsky,
// "Model breadcrumbs", arXiv 2312.06795).
#include "merge/gta.h"

namespace lewis {

static constexpr GtaStyle kStyle = {.sparsifier = Sparsifier::kOutliers};
extern const MergeMethod kBreadcrumbs = gta_method<kStyle>("breadcrumbs");

}  // namespace lewis
