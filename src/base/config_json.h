// config.json as Python's json writes it: an infinite number is the bare word Infinity there, which
// JSON does not have. transformers 4 writes the time_step_limit of Mamba models so; transformers 5
// writes {"__float__": "Infinity"}.
#pragma once

#include <string>
#include <string_view>

#include "base/json_fwd.h"

namespace lewis {

// Parses a config.json. A bare Infinity or -Infinity under a key that may have one
// (time_step_limit) becomes what transformers 5 writes, marked as a bare word. Elsewhere, and for
// NaN, throws Error(kInput) that names the key. `where` begins the messages.
Json parse_config(std::string_view text, std::string_view where);

// The text of a config.json, which ends with a line break; bare words are bare again.
std::string config_text(const Json& config);

}  // namespace lewis
