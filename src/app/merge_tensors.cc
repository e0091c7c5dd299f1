// Merging the caller's tensors, and giving it the result tensor by tensor.
#include <future>
#include <span>

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

// The inputs of one tensor, which are read while the tensor before is merged. The thread is the
// engine's way to read ahead as well (merge/engine.cc).
struct InputsAhead {
  std::vector<PageBuffer> rooms;
  std::vector<StoredTensor> stored;
  std::future<void> reading;

  void begin(const OutputTensor& t) {
    reading = std::async(std::launch::async, [this, &t] {
      stored = read_stored(t.sources(), {0, unit_count(t.info)}, rooms);
    });
  }
};

}  // namespace

void merge_tensors(const TensorMergeJob& job, const TensorSink& sink, const RunContext& context) {
  const Recipe& recipe = needed(job.recipe);
  check_needs(recipe);
  RunResources run(context);
  const MergeInputs inputs(
      recipe, {.seed = job.seed, .threads = run.threads.count(), .in_memory = job.models});
  Progress told{"merging", "bytes", 0, total_bytes(inputs)};
  const std::span<const OutputTensor> tensors = inputs.tensors();
  InputsAhead ahead[2];
  PageBuffer room;
  if (!tensors.empty()) ahead[0].begin(tensors[0]);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const OutputTensor& t = tensors[i];
    InputsAhead& now = ahead[i % 2];
    now.reading.get();
    if (i + 1 < tensors.size()) ahead[(i + 1) % 2].begin(tensors[i + 1]);
    const std::span<std::byte> merged = room.get(byte_size(t.info));
    MemoryOutput output(merged, dtype_size(t.info.dtype));
    inputs.merge(t, MemoryInputs(std::move(now.stored)), output, run.threads);
    sink(t.info, merged);
    told.done += merged.size();
    run.progress(told);
  }
}

}  // namespace lewis
