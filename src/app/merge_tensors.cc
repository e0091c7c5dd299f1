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
  const std::vector<WrittenTensor> written = inputs.written();
  std::vector<std::pair<const WrittenTensor*, const WrittenPart*>> parts;
  for (const WrittenTensor& t : written) {
    for (const WrittenPart& part : t.parts) parts.emplace_back(&t, &part);
  }
  InputsAhead ahead[2];
  PageBuffer room, part_room;
  if (!parts.empty()) ahead[0].begin(inputs.tensor(parts[0].second->name));
  for (size_t i = 0; i < parts.size(); ++i) {
    const auto [whole, part] = parts[i];
    const OutputTensor& t = inputs.tensor(part->name);
    InputsAhead& now = ahead[i % 2];
    now.reading.get();
    if (i + 1 < parts.size()) ahead[(i + 1) % 2].begin(inputs.tensor(parts[i + 1].second->name));
    const bool alone = part->place.rows == 0;
    const size_t size = dtype_size(t.info.dtype);
    const std::span<std::byte> bytes = room.get(byte_size(whole->info));
    const std::span<std::byte> merged = alone ? bytes : part_room.get(byte_size(t.info));
    MemoryOutput output(merged, size);
    inputs.merge(t, MemoryInputs(std::move(now.stored)), output, run.threads);
    if (!alone) scatter(part->place, merged, 0, size, bytes);
    if (part == &whole->parts.back()) sink(whole->info, bytes);
    told.done += merged.size();
    run.progress(told);
  }
}

}  // namespace lewis
