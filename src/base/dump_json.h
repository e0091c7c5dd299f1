// Json as text whatever its strings hold.
#pragma once

#include <string>

#include "base/json_fwd.h"

namespace lewis {

// One line, or indented by so many blanks. Bytes that are not UTF-8, as in names of files, become
// U+FFFD; nlohmann's own dump() throws there.
std::string dump_json(const Json& json, int indent = -1);

}  // namespace lewis
