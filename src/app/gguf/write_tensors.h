// The tensors of a model, in the places that a GGUF file has for them.
#pragma once

#include "app/gguf/export.h"
#include "app/gguf/importances.h"
#include "app/gguf/parts.h"
#include "app/run.h"
#include "io/file.h"
#include "io/tensor_source.h"

namespace lewis {

class GgufTensorWriter {
 public:
  GgufTensorWriter(const TensorSource& model, const GgufExport& e,
                   const GgufImportances& importances, RunResources& run)
      : model_(model),
        export_(e),
        importances_(importances),
        run_(run),
        progress_{"writing", "tensors", 0, count()} {}

  // Fills the file of a part: its header and its tensors; e.made comes behind e.tensors. Memory:
  // the largest tensor as it is stored and a piece of it as floats. Error(kInput) for a value that
  // is not finite.
  void write(const GgufPart& part, const File& file);

 private:
  size_t count() const { return export_.tensors.size() + export_.made.size(); }
  uint64_t write_tensor(const ExportedTensor& t, const std::string& source, uint64_t begin,
                        const File& file);

  const TensorSource& model_;
  const GgufExport& export_;
  const GgufImportances& importances_;
  RunResources& run_;
  Progress progress_;
};

}  // namespace lewis
