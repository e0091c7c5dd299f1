// task_arithmetic: the sum of the weighted task vectors (Ilharco et al., arXiv 2212.04089).
#include "merge/common/gta.h"

namespace lewis {

static constexpr GtaStyle kStyle = {};
extern const MergeMethod kTaskArithmetic =
    gta_method<kStyle>("task_arithmetic", "The base plus the sum of the weighted task vectors.",
                       "Ilharco et al., \"Editing models with task arithmetic\", arXiv 2212.04089");

}  // namespace lewis
