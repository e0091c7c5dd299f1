// A GGUF file as a model: what a model folder gives, made of its tensors and metadata.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "io/gguf.h"
#include "io/tensor_source.h"
#include "merge/input_model.h"

namespace lewis {

// Opens a file, or the first of the parts of a model (NAME-00001-of-00003.gguf), which lie beside
// it. Error(kInput): a part is missing, is no GGUF file or belongs to another model; a tensor is
// there twice.
std::vector<std::shared_ptr<const GgufFile>> open_gguf_parts(const std::filesystem::path& file);

// The tensors by the names and in the order of rows that they have in the files, blocks as the
// numbers that they stand for.
std::shared_ptr<const TensorSource> gguf_as_stored(
    const std::string& label, const std::vector<std::shared_ptr<const GgufFile>>& parts);

// The model, with the names and the order of rows of transformers (the exporter's, turned back),
// blocks as float32; config.json, generation_config.json and the tokenizer's files are made of the
// metadata. Notes say what cannot be known. Error(kInput) that names file and tensor or key: an
// architecture that is not read, a tensor without a place in it or of another shape.
InputModel open_gguf(const std::filesystem::path& file);

}  // namespace lewis
