// The choice of the next token from its logits.
#pragma once

#include <cstdint>
#include <span>

namespace lewis {

// The largest logit; of equal ones the lowest id.
int32_t most_likely_token(std::span<const float> logits);

// Draws from softmax(logits / temperature), cut to the fewest most likely tokens whose
// probabilities reach top_p ("nucleus": Holtzman et al., "The curious case of neural text
// degeneration", 2020, section 3.1), of equally likely ones those with the lowest ids.
// temperature > 0; 0 < top_p <= 1; uniform in [0, 1) decides.
int32_t sample_token(std::span<const float> logits, double temperature, double top_p,
                     double uniform);

// The uniform number in [0, 1) for a prompt's token at `position`.
double sampling_number(uint64_t seed, uint64_t prompt, uint64_t position);

}  // namespace lewis
