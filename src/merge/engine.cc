#include "merge/engine.h"

#include <algorithm>
#include <future>

#include "base/error.h"
#include "base/hash.h"
#include "base/page_buffer.h"
#include "io/model_writer.h"
#include "merge/inputs.h"
#include "merge/model_card.h"
#include "merge/tensor_merge.h"

namespace lewis {
namespace {

// One tensor on its way through read, merge and write. Two take turns, so that the disk works on
// the next and the last while the processor works on this one.
struct Station {
  std::vector<PageBuffer> in;  // per model
  PageBuffer out;
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
  for (const MergeSource& s : tensor.sources())
    bytes += s.input->source->read_cost(*s.tensor).disk_bytes;
  return bytes;
}

class Merge {
 public:
  Merge(const MergeInputs& inputs, const ProgressFn& progress, bool overlap, ModelWriter& writer,
        Threads& threads)
      : inputs_(inputs),
        progress_(progress),
        overlap_(overlap),
        writer_(writer),
        threads_(threads) {}

  void run(MergeReport& report) {
    std::vector<size_t> todo;  // without what an earlier run has finished
    for (size_t i = 0; i < writer_.tensors().size(); ++i) {
      if (writer_.is_done(i)) {
        ++report.resumed;
        continue;
      }
      todo.push_back(i);
      total_ += bytes_read_for(output(i)) + byte_size(writer_.tensors()[i]);
    }
    overlap_ ? run_overlapping(todo, report) : run_one_by_one(todo, report);
  }

 private:
  void run_overlapping(const std::vector<size_t>& todo, MergeReport& report) {
    if (!todo.empty()) begin_read(stations_[0], todo[0]);
    for (size_t i = 0; i < todo.size(); ++i) {
      Station& now = stations_[i % 2];
      Station& next = stations_[(i + 1) % 2];
      now.work.get();                          // has been read
      if (next.work.valid()) next.work.get();  // has been written
      if (i + 1 < todo.size()) begin_read(next, todo[i + 1]);
      compute(now, report);
      begin_write(now);
      tell(bytes_read_for(output(todo[i])) + now.output.size());
    }
    for (Station& s : stations_) {
      if (s.work.valid()) s.work.get();
    }
  }

  void run_one_by_one(const std::vector<size_t>& todo, MergeReport& report) {
    Station& only = stations_[0];
    for (const size_t tensor : todo) {
      begin_read(only, tensor);
      only.work.get();
      compute(only, report);
      begin_write(only);
      only.work.get();
      tell(bytes_read_for(output(tensor)) + only.output.size());
    }
  }

  const OutputTensor& output(size_t tensor) const {
    return inputs_.tensor(writer_.tensors()[tensor].name);
  }

  void begin_read(Station& s, size_t tensor) {
    s.tensor = tensor;
    s.work = std::async(std::launch::async, [this, &s] {
      s.inputs.clear();
      const auto sources = output(s.tensor).sources();
      s.in.resize(std::max(s.in.size(), sources.size()));
      for (size_t i = 0; i < sources.size(); ++i)
        s.inputs.push_back(read_stored(sources[i], s.in[i]));
    });
  }

  void begin_write(Station& s) {
    s.work = std::async(std::launch::async, [this, &s] { writer_.write(s.tensor, 0, s.output); });
  }

  void compute(Station& s, MergeReport& report) {
    const OutputTensor& out = output(s.tensor);
    s.output = s.out.get(byte_size(out.info));
    report.parameters += static_cast<uint64_t>(element_count(out.info.shape));
    const bool copied = inputs_.merge(out, s.inputs, s.output, threads_);
    ++(copied ? report.copied : report.merged);
  }

  void tell(uint64_t bytes) {
    done_ += bytes;
    if (progress_) progress_({"merging", "bytes", done_, total_});
  }

  const MergeInputs& inputs_;
  const ProgressFn& progress_;
  bool overlap_;
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

namespace {

MergeCost cost_of(const MergeInputs& inputs, size_t threads) {
  MergeCost cost;
  uint64_t largest = 0;
  for (const OutputTensor& t : inputs.tensors()) {
    uint64_t memory = byte_size(t.info);
    for (const MergeSource& s : t.sources())
      memory += byte_size(*s.tensor) + s.input->source->read_cost(*s.tensor).memory;
    cost.tensors += 1;
    cost.parameters += static_cast<uint64_t>(element_count(t.info.shape));
    cost.bytes_read += bytes_read_for(t);
    cost.bytes_written += byte_size(t.info);
    largest = std::max(largest, memory);
  }
  constexpr uint64_t kProgram = 16 << 20;
  const uint64_t scratch =
      threads * (2 * inputs.models().size() + 2) * kSlotElements * sizeof(float);
  // A survey collects a few per cent of the elements of each model.
  cost.least_memory = largest + largest / 16 + scratch + kProgram;
  cost.peak_memory = cost.least_memory + largest;  // one tensor is computed, another on its way
  return cost;
}

// Whether there is memory to read the next tensor while one is computed.
bool may_overlap(const MergeCost& cost, uint64_t limit) {
  if (limit == 0 || cost.peak_memory <= limit) return true;
  if (cost.least_memory <= limit) return false;
  throw resource_error("--max-memory {}: the largest tensor with all its inputs needs {} bytes",
                       limit, cost.least_memory);
}

}  // namespace

MergeCost merge_cost(const Recipe& recipe, size_t threads) {
  return cost_of(MergeInputs(recipe, {.threads = threads}), threads);
}

namespace {

std::vector<std::string> fingerprints(const MergeInputs& inputs) {
  std::vector<std::string> all;
  for (const InputModel* model : inputs.models()) all.push_back(model->fingerprint());
  return all;
}

// A hash of all that decides the bytes of OUT.
std::string plan_hash(const MergeInputs& inputs, const MergeOptions& options,
                      const std::vector<std::string>& models) {
  const Json plan = {{"lewis", LEWIS_VERSION},
                     {"recipe", to_yaml(inputs.recipe(), false)},
                     {"models", models},
                     {"seed", options.seed},
                     {"shard_bytes", options.shard_bytes},
                     {"name", options.out.filename().string()},
                     {"tokenizer", !options.no_tokenizer}};
  return sha256_hex(plan.dump());
}

Json about(const MergeInputs& inputs, const MergeOptions& options,
           const std::vector<std::string>& models) {
  Json sources = Json::array();
  for (size_t m = 0; m < models.size(); ++m) {
    sources.push_back({{"model", inputs.models()[m]->name}, {"fingerprint", models[m]}});
  }
  return {{"lewis_version", LEWIS_VERSION}, {"seed", options.seed}, {"sources", sources}};
}

}  // namespace

MergeReport merge(const Recipe& recipe, const MergeOptions& options, Threads& threads) {
  check_merge_target(recipe, options);
  const MergeInputs inputs(recipe, {options.seed, threads.count()});
  const bool overlap = may_overlap(cost_of(inputs, threads.count()), options.max_memory);
  const std::vector<std::string> models = fingerprints(inputs);
  MergeReport report;
  report.warnings = inputs.warnings();
  ModelWriter writer(options.out, outputs_of(inputs),
                     {.shard_bytes = options.shard_bytes,
                      .force = options.force,
                      .resume = options.resume,
                      .plan = plan_hash(inputs, options, models)});
  try {
    Merge(inputs, options.progress, overlap, writer, threads).run(report);
  } catch (const Error& e) {
    if (e.code() != ExitCode::kInterrupted) throw;
    writer.keep_partial();
    throw Error(e.code(),
                fmt::format("{}; the finished shards stay in {}.partial, --resume goes on",
                            e.what(), options.out.string()));
  }
  add_companions(inputs, options.out.filename().string(), !options.no_tokenizer, writer);
  if (fingerprints(inputs) != models) {
    throw input_error("{}: a model was changed while it was read", recipe.file.string());
  }
  writer.commit(about(inputs, options, models));
  for (const OutputTensor& t : inputs.tensors()) report.bytes_read += bytes_read_for(t);
  report.bytes_written = writer.tensor_bytes();
  report.shards = writer.shards();
  return report;
}

}  // namespace lewis
