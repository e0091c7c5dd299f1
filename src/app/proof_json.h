// The proof of an adapter as JSON, and as a table of the report.
#pragma once

#include <lewis/proof.h>

#include "base/json_fwd.h"
#include "report/report.h"

namespace lewis {

Json to_json(const AdapterProof& proof);
// The other way round, for OUT/lewis_run.json; throws what the JSON library throws, or
// std::exception for a verdict that is not known.
AdapterProof adapter_proof_of(const Json& json);

// The three lines, and the tensors with the largest errors.
NumberTable proof_table(const AdapterProof& proof);

}  // namespace lewis
