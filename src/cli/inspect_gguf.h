// lewis inspect FILE.gguf [TENSOR].
#pragma once

#include <filesystem>
#include <string>

#include "base/threads.h"

namespace lewis {

// The metadata and tensors of a file, or of all parts of a model, as they are stored; with a name
// the values of that tensor. A file of any architecture. Throws as open_gguf_parts.
void inspect_gguf(const std::filesystem::path& file, const std::string& tensor, bool json,
                  Threads& threads);

}  // namespace lewis
