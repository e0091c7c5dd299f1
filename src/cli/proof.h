// The proof of an adapter in the terminal.
#pragma once

#include <lewis/lewis.h>

namespace lewis {

// Its three lines: on tensors, on rounding, on logits.
void print_proof(const AdapterProof& proof);

}  // namespace lewis
