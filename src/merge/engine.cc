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

uint64_t bytes_read_for(const OutputTensor& tensor) {
  uint64_t bytes = 0;
  for (const MergeSource& s : tensor.sources()) bytes += byte_size(*s.tensor);
  return bytes;
}

class Merge {
 public:
  Merge(const MergeInputs& inputs, const MergeOptions& options, ModelWriter& writer,
        Threads& threads)
      : inputs_(inputs), options_(options), writer_(writer), threads_(threads) {}

  void run(MergeReport& report) {
    const size_t count = writer_.tensors().size();
    for (size_t i = 0; i < count; ++i)
      total_ += bytes_read_for(output(i)) + byte_size(writer_.tensors()[i]);
    if (count > 0) begin_read(stations_[0], 0);
    for (size_t i = 0; i < count; ++i) {
      Station& now = stations_[i % 2];
      Station& next = stations_[(i + 1) % 2];
      now.work.get();                          // has been read
      if (next.work.valid()) next.work.get();  // has been written
      if (i + 1 < count) begin_read(next, i + 1);
      compute(now, report);
      begin_write(now);
      tell(bytes_read_for(output(i)) + now.output.size());
    }
    for (Station& s : stations_) {
      if (s.work.valid()) s.work.get();
    }
  }

 private:
  const OutputTensor& output(size_t tensor) const {
    return inputs_.tensor(writer_.tensors()[tensor].name);
  }

  void begin_read(Station& s, size_t tensor) {
    s.tensor = tensor;
    s.work = std::async(std::launch::async, [this, &s] {
      s.inputs.clear();
      const auto sources = output(s.tensor).sources();
      s.in.resize(std::max(s.in.size(), sources.size()));
      for (size_t i = 0; i < sources.size(); ++i) {
        const TensorInfo& info = *sources[i].tensor;
        const Checkpoint& model = inputs_.models()[sources[i].model];
        const auto bytes = s.in[i].get(byte_size(info));
        model.read(info, 0, bytes);
        s.inputs.push_back({info.dtype, bytes, model.label()});
      }
    });
  }

  void begin_write(Station& s) {
    s.work = std::async(std::launch::async, [this, &s] { writer_.write(s.tensor, 0, s.output); });
  }

  void compute(Station& s, MergeReport& report) {
    const OutputTensor& out = output(s.tensor);
    s.output = s.out.get(byte_size(out.info));
    report.parameters += static_cast<uint64_t>(element_count(out.info.shape));
    if (!out.merged) {
      copy_tensor(out.info.name, s.inputs, s.output);
      ++report.copied;
      return;
    }
    const TensorTask task = inputs_.task(out, options_.seed);
    const auto models = std::span<const StoredTensor>(s.inputs).first(out.models.size());
    const StoredTensor* base = out.base ? &s.inputs.back() : nullptr;
    const bool copied =
        merge_tensor(inputs_.method(), task, base, models, out.info.dtype, s.output, threads_);
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
  for (const OutputTensor& t : inputs.tensors()) outputs.push_back(t.info);
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
  for (const OutputTensor& t : inputs.tensors()) {
    const uint64_t out = byte_size(t.info), in = bytes_read_for(t);
    cost.tensors += 1;
    cost.parameters += static_cast<uint64_t>(element_count(t.info.shape));
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
  for (const OutputTensor& t : inputs.tensors()) report.bytes_read += bytes_read_for(t);
  report.bytes_written = writer.tensor_bytes();
  report.shards = writer.shards();
  return report;
}

}  // namespace lewis
