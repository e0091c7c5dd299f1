// Whether the token ids of two models mean the same.
#pragma once

#include "app/running_model.h"

namespace lewis {

// True where both have the same tokenizer files, none, or vocabularies with the same id for each
// token, as a folder and a GGUF file of one model have them.
bool have_same_tokens(const RunningModel& a, const RunningModel& b);

}  // namespace lewis
