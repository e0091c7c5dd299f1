// A model as the GGUF file that llama.cpp runs.
#pragma once

#include <string>
#include <vector>

#include "base/json_fwd.h"
#include "io/gguf.h"
#include "io/tensor_source.h"
#include "model/model_spec.h"

namespace lewis {

// Rows or columns from `first` on are those of value heads, `width` each. A model has `each` of
// them beside each other for every of its `keys` key heads, a file the first of every key head,
// then the second of every, as llama.cpp repeats key heads.
struct ValueHeads {
  int64_t first = 0, keys = 0, each = 1, width = 1;

  // Where row or column `i` of the file is in the model.
  int64_t operator()(int64_t i) const {
    if (i < first || keys == 0) return i;
    const int64_t head = (i - first) / width;
    return first + (head % keys * each + head / keys) * width + (i - first) % width;
  }
};

// A tensor of the file, and where its rows come from.
struct ExportedTensor {
  GgufTensor tensor;
  std::vector<std::string> sources;  // names in the model: one, or one for each routed expert
  int64_t rope_heads = 0;  // llama.cpp turns neighbouring rows of a head: rows change places; or 0
  ValueHeads rows, columns;
  bool decay = false;      // holds log(-x) of the file's x: the decay of a linear attention
  float plus = 0;          // is added: norms that store weight - 1 are whole in GGUF
  bool stays_f32 = false;  // whatever the others are: a vector, a router
};

// A vector that only the file has.
struct MadeTensor {
  std::string name;
  std::vector<float> values;
};

struct GgufExport {
  GgufMetadata metadata;  // without tokenizer.* and general.*, but general.architecture
  std::vector<ExportedTensor> tensors;
  std::vector<MadeTensor> made;    // factors of rope
  ValueHeads linear_heads;         // of linear attention, where there is one
  std::vector<std::string> notes;  // one line each
};

// The sizes of `spec`, which `config` was read as, are those of the file. The keys and tensors are
// those of the converter of llama.cpp for the family (families/table.cc). The routed experts of a
// layer, which `model` shows one by one, become one tensor [experts, rows, columns]. All are F32
// until choose_types (mix.h). `file`: config.json, for messages. Throws Error(kInput) for another
// model_type, settings that llama.cpp does not run, and a tensor that has no place in the file.
GgufExport export_model(const TensorSource& model, const ModelSpec& spec, const Json& config,
                        const std::string& file);

}  // namespace lewis
