// The head as the last layer that is refined.
#pragma once

#include <functional>

#include "refine/block.h"

namespace lewis {

// Solves the untied head from the streams after the last block. Arguments and result as for
// refine_block.
BlockResult refine_head(const RefineModels& models, const TextRows& text,
                        const RefineSettings& settings, const StreamPair& in, StreamPair& out,
                        const std::function<void(uint64_t)>& step);

}  // namespace lewis
