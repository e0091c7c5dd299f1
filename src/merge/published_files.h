// Small files of models, as they are copied into a merge that others will read.
#pragma once

#include <string>
#include <vector>

namespace lewis {

// A JSON file without folders of the machine where it was made: values that are paths, as under
// "special_tokens_map_file", become their last part; "_name_or_path" and "name_or_path" become
// `model`. Tokens, templates and everything else stay byte for byte. `changed` gets the keys.
std::string without_folders_in_json(const std::string& json, const std::string& model,
                                    std::vector<std::string>& changed);

}  // namespace lewis
