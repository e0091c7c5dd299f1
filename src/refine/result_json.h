// How a block was refined, as JSON: in the journal of a refinement and in the record of a run.
#pragma once

#include "base/json_fwd.h"
#include "refine/block.h"

namespace lewis {

// All of a result but its tensors.
Json to_json(const BlockResult& result);
// The other way. Throws what Json throws where something is missing or of another kind.
BlockResult block_result_of(const Json& json);

}  // namespace lewis
