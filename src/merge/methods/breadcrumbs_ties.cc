// breadcrumbs_ties: breadcrumbs with the sign election of TIES (arXiv 2312.06795 and 2306.01708).
#include "merge/common/gta.h"

namespace lewis {

static constexpr GtaStyle kStyle = {.sparsifier = Sparsifier::kOutliers, .elect_signs = true};
extern const MergeMethod kBreadcrumbsTies = gta_method<kStyle>(
    "breadcrumbs_ties",
    "Drops the largest and the smallest entries of each task vector and adds up the values that "
    "agree with the elected sign.",
    "Davari and Belilovsky, \"Model breadcrumbs\", arXiv 2312.06795; signs: arXiv 2306.01708");

}  // namespace lewis
