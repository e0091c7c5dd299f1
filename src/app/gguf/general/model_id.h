// What the name of a model says of it, by the customs of the hub.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace lewis {

// Each is "" where the name does not say it.
struct ModelIdParts {
  std::string organization, name;                       // "meta-llama" and "Llama-3.1-8B-Instruct"
  std::string basename, finetune, version, size_label;  // "Llama", "Instruct", "3.1", "8B"
};

// Takes "owner/name" or "name" apart, as llama.cpp's converter does (gguf-py, metadata.py): words
// between hyphens are sizes, versions, kinds of fine-tunes or types. A size that is far from
// `parameters`, which are those of the model, is the length of a context. `id` of more than 200
// bytes, or with a blank, is a name.
ModelIdParts parts_of_id(std::string_view id, uint64_t parameters);

// "llama-3-instruct" -> "Llama 3 Instruct": words in lower case get a capital.
std::string title_of(std::string_view name);

}  // namespace lewis
