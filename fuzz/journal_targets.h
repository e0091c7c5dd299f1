// The targets of journals (io/json_lines.h): what evaluation, tuning and refinement take over.
#pragma once

#include "targets.h"

namespace lewis {

// Every line of a journal is hashed, so that almost no changed input would be believed. In these
// targets the input is the records, one JSON object per line, which are hashed anew.
void resume_evaluation(std::string_view bytes, const FuzzFolder& folder);
void resume_tuning(std::string_view bytes, const FuzzFolder& folder);

// The first line is a record, the rest the file of a refined block.
void resume_refinement(std::string_view bytes, const FuzzFolder& folder);

}  // namespace lewis
