// tokenizer_config.json and its siblings, as objects that can be changed and written again.
#pragma once

#include <optional>
#include <string>

#include "base/json_fwd.h"
#include "base/model_files.h"

namespace lewis {

// A file that holds a JSON object; nothing if there is no such file. Error(kInput) names it.
std::optional<Json> read_json_object(const ModelFiles& files, const std::string& name);

// The text of such a file as transformers writes it. Its "no limit" for model_max_length,
// int(1e30), which JSON libraries read as a float, stays the integer that it was.
std::string json_object_text(const Json& object);

}  // namespace lewis
