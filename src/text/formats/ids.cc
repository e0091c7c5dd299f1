// Token ids as they are: {"ids": [0, 17, ...]}, so that anything can be fed exactly.
#include <limits>

#include "base/json.h"
#include "text/formats/format.h"

namespace lewis {
namespace {

int32_t token_id(const Row& row, const Json& value) {
  // Unsigned numbers above 2^63 would look negative.
  const bool fits = value.is_number_integer() && value >= 0 &&
                    value.get<uint64_t>() <= std::numeric_limits<int32_t>::max();
  if (!fits) {
    throw row_error(row, fmt::format("'ids' must hold whole numbers from 0 to {}, found {}",
                                     std::numeric_limits<int32_t>::max(), value.dump()));
  }
  return value.get<int32_t>();
}

}  // namespace

std::vector<DataItem> read_ids(const FormatInput& input) {
  return read_rows(input, [](const Row& row) {
    const Json& ids = row.field("ids");
    if (!ids.is_array() || ids.empty()) {
      throw row_error(row, "the field 'ids' must be a list of token ids with at least one");
    }
    DataItem item = row.item(DataItem::Kind::kIds);
    item.ids.reserve(ids.size());
    for (const Json& id : ids) item.ids.push_back(token_id(row, id));
    return item;
  });
}

}  // namespace lewis
