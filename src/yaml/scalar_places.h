// Where the scalars of a YAML text stand, for who changes some and keeps everything else.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "yaml/yaml.h"

namespace lewis {

struct ScalarPlace {
  size_t begin = 0, end = 0;  // in bytes; quotes and the mark of a block are within
};

struct YamlWithPlaces {
  std::vector<YamlNode> documents;  // as parse_yaml has them
  // Of all scalars of all documents, keys too, in the order of the text. An empty value has an
  // empty place.
  std::vector<ScalarPlace> places;
};

// Throws as parse_yaml does.
YamlWithPlaces parse_yaml_with_places(std::string_view text, std::string_view where);

}  // namespace lewis
