#include "base/dump_json.h"

#include "base/json.h"

namespace lewis {

std::string dump_json(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace lewis
