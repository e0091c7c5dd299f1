// Merging the caller's tensors, and giving it the result tensor by tensor.
#include "app/run.h"
#include "base/error.h"
#include "base/page_buffer.h"
#include "merge/inputs.h"

namespace lewis {
namespace {

// Tensors alone have neither texts nor tokenizers.
void check_needs(const Recipe& recipe) {
  const std::string file = recipe.file.empty() ? "recipe" : recipe.file.string();
  if (recipe.lewis && !recipe.lewis->calibration.empty())
    throw usage_error("{}: lewis.calibration needs models that can be run, not only tensors", file);
  if (refines(recipe))
    throw usage_error("{}: lewis.refine needs models that can be run, not only tensors", file);
  if (recipe.tokenizer || recipe.chat_template)
    throw usage_error("{}: tokenizer settings need model folders, not only tensors", file);
}

uint64_t total_bytes(const MergeInputs& inputs) {
  uint64_t bytes = 0;
  for (const OutputTensor& t : inputs.tensors()) bytes += byte_size(t.info);
  return bytes;
}

}  // namespace

void merge_tensors(const TensorMergeJob& job, const TensorSink& sink, const RunContext& context) {
  const Recipe& recipe = needed(job.recipe);
  check_needs(recipe);
  RunResources run(context);
  const MergeInputs inputs(
      recipe, {.seed = job.seed, .threads = run.threads.count(), .in_memory = job.models});
  Progress told{"merging", "bytes", 0, total_bytes(inputs)};
  std::vector<PageBuffer> rooms;
  PageBuffer room;
  for (const OutputTensor& t : inputs.tensors()) {
    std::vector<StoredTensor> stored = read_stored(t.sources(), {0, unit_count(t.info)}, rooms);
    const std::span<std::byte> merged = room.get(byte_size(t.info));
    MemoryOutput output(merged, dtype_size(t.info.dtype));
    inputs.merge(t, MemoryInputs(std::move(stored)), output, run.threads);
    sink(t.info, merged);
    told.done += merged.size();
    run.progress(told);
  }
}

}  // namespace lewis
