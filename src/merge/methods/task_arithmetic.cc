// task_arithmetic: the sum of the weighted task vectors (Ilharco et al., arXiv 2212.04089).
#include "merge/gta.h"

namespace lewis {

static constexpr GtaStyle kStyle = {};
extern const MergeMethod kTaskArithmetic = gta_method<kStyle>("task_arithmetic");

}  // namespace lewis
