// A GGUF model in several files, as llama.cpp reads them: NAME-00001-of-00003.gguf, the keys
// split.* in each, all other metadata in the first.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "io/gguf.h"

namespace lewis {

struct GgufPart {
  std::filesystem::path file;
  size_t begin = 0, end = 0;  // of the tensors, in their order
  GgufLayout layout;
};

// The files of a model: OUT alone, or parts whose tensors have at most `most` bytes together (0: no
// limit); a larger tensor is a part of its own.
std::vector<GgufPart> gguf_parts(const std::filesystem::path& out, const GgufMetadata& metadata,
                                 const std::vector<GgufTensor>& tensors, uint64_t most);

// "merged-00001-of-00003.gguf" of "merged.gguf", 0 and 3.
std::filesystem::path gguf_part_name(const std::filesystem::path& out, size_t part, size_t count);

// The first of the parts that are there already for this OUT; empty: none is.
std::filesystem::path find_first_part(const std::filesystem::path& out);

}  // namespace lewis
