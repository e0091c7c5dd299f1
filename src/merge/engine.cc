#include "merge/engine.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <future>

#include "base/error.h"
#include "merge/inputs.h"
#include "merge/model_card.h"
#include "merge/tensor_merge.h"

namespace lewis {
namespace {

std::vector<std::filesystem::path> source_folders(const Recipe& recipe) {
  std::vector<std::filesystem::path> folders;
  for (const RecipeModel& m : recipe.models) folders.push_back(m.folder);
  return folders;
}

// Memory that grows and is used again: fresh pages cost more than the arithmetic.
class Buffer {
 public:
  std::span<std::byte> get(size_t bytes) {
    if (bytes > size_) {
      data_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
      size_ = bytes;
    }
    return {data_.get(), bytes};
  }

 private:
  std::unique_ptr<std::byte[]> data_;
  size_t size_ = 0;
};

// One tensor on its way through read, merge and write. Two take turns, so that the disk works on
// the next and the last while the processor works on this one.
struct Station {
  std::vector<Buffer> in;  // per model
  Buffer out;
  size_t tensor = 0;  // of ModelWriter::tensors()
  std::vector<StoredTensor> inputs;
  std::span<std::byte> output;
  std::future<void> work;  // the read or write under way
  // In this order: a thread that still reads must end before its buffers go.
  ~Station() {
    if (work.valid()) work.wait();
  }
};

class Merge {
 public:
  Merge(const MergeInputs& inputs, const MergeOptions& options, ModelWriter& writer,
        Threads& threads)
      : inputs_(inputs), options_(options), writer_(writer), threads_(threads) {
    for (Station& s : stations_) s.in.resize(inputs.models().size());
  }

  void run(MergeReport& report) {
    const size_t count = writer_.tensors().size();
    for (size_t i = 0; i < count; ++i) total_ += bytes_in(i) + byte_size(writer_.tensors()[i]);
    if (count > 0) begin_read(stations_[0], 0);
    for (size_t i = 0; i < count; ++i) {
      Station& now = stations_[i % 2];
      Station& next = stations_[(i + 1) % 2];
      now.work.get();                          // has been read
      if (next.work.valid()) next.work.get();  // has been written
      if (i + 1 < count) begin_read(next, i + 1);
      compute(now, report);
      begin_write(now);
      tell(bytes_in(i) + now.output.size());
    }
    for (Station& s : stations_) {
      if (s.work.valid()) s.work.get();
    }
  }

 private:
  const TensorInfo& main_tensor(size_t tensor) const {
    return inputs_.main().get(writer_.tensors()[tensor].name);
  }

  uint64_t bytes_in(size_t tensor) const {
    uint64_t bytes = 0;
    for (size_t m = 0; m < inputs_.models().size(); ++m)
      bytes += byte_size(inputs_.tensor_of(m, main_tensor(tensor)));
    return bytes;
  }

  void begin_read(Station& s, size_t tensor) {
    s.tensor = tensor;
    s.work = std::async(std::launch::async, [this, &s] {
      s.inputs.clear();
      for (size_t m = 0; m < inputs_.models().size(); ++m) {
        const TensorInfo& info = inputs_.tensor_of(m, main_tensor(s.tensor));
        const auto bytes = s.in[m].get(byte_size(info));
        inputs_.models()[m].read(info, 0, bytes);
        s.inputs.push_back({info.dtype, bytes, inputs_.models()[m].label()});
      }
    });
  }

  void begin_write(Station& s) {
    s.work = std::async(std::launch::async, [this, &s] { writer_.write(s.tensor, 0, s.output); });
  }

  void compute(Station& s, MergeReport& report) {
    const TensorInfo& info = main_tensor(s.tensor);
    const TensorInfo& out = writer_.tensors()[s.tensor];
    s.output = s.out.get(byte_size(out));
    report.parameters += static_cast<uint64_t>(element_count(info.shape));
    if (!inputs_.is_merged(info)) {
      copy_tensor(info.name, s.inputs, s.output);
      ++report.copied;
      return;
    }
    const TensorTask task = inputs_.task(info, options_.seed);
    std::vector<StoredTensor> models;
    for (const size_t m : inputs_.merged()) models.push_back(s.inputs[m]);
    const StoredTensor* base = inputs_.base() ? &s.inputs[*inputs_.base()] : nullptr;
    const bool copied =
        merge_tensor(inputs_.method(), task, base, models, out.dtype, s.output, threads_);
    ++(copied ? report.copied : report.merged);
  }

  void tell(uint64_t bytes) {
    done_ += bytes;
    if (options_.progress) options_.progress({"merging", "bytes", done_, total_});
  }

  const MergeInputs& inputs_;
  const MergeOptions& options_;
  ModelWriter& writer_;
  Threads& threads_;
  Station stations_[2];
  uint64_t done_ = 0, total_ = 0;
};

std::vector<TensorInfo> outputs_of(const MergeInputs& inputs) {
  std::vector<TensorInfo> outputs;
  for (const TensorInfo& t : inputs.main().tensors()) outputs.push_back(inputs.output(t));
  return outputs;
}

}  // namespace

void check_merge_target(const Recipe& recipe, const MergeOptions& options) {
  refuse_out_in_sources(options.out, source_folders(recipe));
  refuse_existing_out(options.out, options.force);
}

MergeCost merge_cost(const Recipe& recipe, size_t threads) {
  const MergeInputs inputs(recipe);
  MergeCost cost;
  uint64_t largest = 0;
  for (const TensorInfo& t : inputs.main().tensors()) {
    const uint64_t out = byte_size(inputs.output(t));
    uint64_t in = 0;
    for (size_t m = 0; m < inputs.models().size(); ++m) in += byte_size(inputs.tensor_of(m, t));
    cost.tensors += 1;
    cost.parameters += static_cast<uint64_t>(element_count(t.shape));
    cost.bytes_read += in;
    cost.bytes_written += out;
    largest = std::max(largest, in + out);
  }
  constexpr uint64_t kProgram = 16 << 20;
  const uint64_t scratch =
      threads * (2 * inputs.models().size() + 2) * kSlotElements * sizeof(float);
  // A survey collects a few per cent of the elements of each model.
  cost.peak_memory = 2 * largest + largest / 16 + scratch + kProgram;
  return cost;
}

MergeReport merge(const Recipe& recipe, const MergeOptions& options, Threads& threads) {
  check_merge_target(recipe, options);
  const MergeInputs inputs(recipe);
  MergeReport report;
  report.warnings = inputs.warnings();
  ModelWriter writer(options.out, outputs_of(inputs), {options.shard_bytes, options.force});
  Merge(inputs, options, writer, threads).run(report);
  add_companions(inputs, options.out.filename().string(), !options.no_tokenizer, writer);
  writer.commit();
  for (const Checkpoint& model : inputs.models()) report.bytes_read += model.total_bytes();
  report.bytes_written = writer.tensor_bytes();
  report.shards = writer.shards();
  return report;
}

}  // namespace lewis
