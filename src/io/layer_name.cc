#include "io/layer_name.h"

#include <algorithm>
#include <charconv>

namespace lewis {

LayerName split_layer(std::string_view name) {
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    int64_t number = 0;
    const auto [stop, error] = std::from_chars(name.data() + begin, name.data() + end, number);
    if (error == std::errc() && stop == name.data() + end && begin > 0 && number >= 0)
      return {name.substr(0, begin), name.substr(end), number};
    begin = end + 1;
  }
  return {name, {}, std::nullopt};
}

std::optional<int64_t> tensor_layer(std::string_view name) { return split_layer(name).layer; }

}  // namespace lewis
