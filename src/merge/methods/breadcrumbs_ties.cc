// breadcrumbs_ties: breadcrumbs with the sign election of TIES (arXiv 2312.06795 and 2306.01708).
#include "merge/gta.h"

namespace lewis {

static constexpr GtaStyle kStyle = {.sparsifier = Sparsifier::kOutliers, .elect_signs = true};
extern const MergeMethod kBreadcrumbsTies = gta_method<kStyle>("breadcrumbs_ties");

}  // namespace lewis
