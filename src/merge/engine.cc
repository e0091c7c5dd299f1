#include "merge/engine.h"

#include <algorithm>
#include <future>
#include <iterator>
#include <map>
#include <memory>
#include <set>

#include "base/build.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/page_buffer.h"
#include "io/model_writer.h"
#include "io/out_folder.h"
#include "io/part_writer.h"
#include "io/shard_file.h"
#include "merge/far_reads.h"
#include "merge/fusing_writer.h"
#include "merge/inputs.h"
#include "merge/model_card.h"
#include "merge/tensor/merge_tensor.h"
#include "merge/tensor/streaming.h"

namespace lewis {
namespace {

// One tensor on its way through read, merge and write. Two take turns: while one is merged, the
// inputs of the next are read into the other, and the result of the last is written from it.
struct Station {
  std::vector<PageBuffer> in;  // per model
  PageBuffer out;
  size_t tensor = 0;  // of TensorWriter::tensors()
  std::vector<StoredTensor> inputs;
  std::future<void> reading, writing;  // under way
  // Threads that still read or write must end before their buffers go.
  ~Station() {
    for (std::future<void>* work : {&reading, &writing}) {
      if (work->valid()) work->wait();
    }
  }
  void wait_written() {
    if (writing.valid()) writing.get();
  }
};

uint64_t bytes_read_for(const OutputTensor& tensor) {
  uint64_t bytes = 0;
  for (const MergeSource& s : tensor.sources())
    bytes += s.input->source->read_cost(*s.tensor).disk_bytes;
  return bytes;
}

// Bytes of a tensor with all its inputs.
uint64_t whole_bytes(const OutputTensor& tensor) {
  uint64_t bytes = byte_size(tensor.info);
  for (const MergeSource& s : tensor.sources()) bytes += byte_size(*s.tensor);
  return bytes;
}

// How much of a tensor is in memory, its inputs and its result together.
struct MemoryPlan {
  uint64_t whole = 512 << 20;  // tensors up to this size whole, two at a time
  uint64_t block = 128 << 20;  // of larger ones, two blocks at a time
  uint64_t ahead = 256 << 20;  // bytes that come from the network before they are needed
};

int64_t block_elements(const OutputTensor& tensor, uint64_t block_bytes) {
  uint64_t bytes_per_element = dtype_size(tensor.info.dtype);
  for (const MergeSource& s : tensor.sources()) bytes_per_element += dtype_size(s.tensor->dtype);
  return std::max<int64_t>(1, static_cast<int64_t>(block_bytes / bytes_per_element));
}

class Merge {
 public:
  Merge(const MergeInputs& inputs, const ProgressFn& progress, const MemoryPlan& memory,
        TensorWriter& writer, Threads& threads)
      : inputs_(inputs), progress_(progress), memory_(memory), writer_(writer), threads_(threads) {}

  // `spool`: a folder for bytes that came from the network and are too many for the memory.
  void run(MergeReport& report, const std::filesystem::path& spool) {
    std::vector<size_t> todo;  // without what an earlier run has finished
    for (size_t i = 0; i < writer_.tensors().size(); ++i) {
      if (writer_.is_done(i)) {
        ++report.resumed;
        report.resumed_tensors.push_back(writer_.tensors()[i].name);
        continue;
      }
      todo.push_back(i);
      total_ += bytes_read_for(output(i)) + byte_size(writer_.tensors()[i]);
      far_.add(output(i), !is_whole(i));
    }
    far_.begin({memory_.ahead, spool});
    for (size_t i = 0; i < todo.size();) {
      const bool whole = is_whole(todo[i]);
      size_t end = i;
      while (end < todo.size() && is_whole(todo[end]) == whole) ++end;
      const auto part = std::span(todo).subspan(i, end - i);
      whole ? run_whole(part, i, report) : run_in_blocks(part, i, report);
      i = end;
    }
    std::ranges::copy(far_.end(), std::back_inserter(report.warnings));
  }
  // Of all tensors of the writer, finished ones included.
  uint64_t bytes_of_inputs() const {
    uint64_t bytes = 0;
    for (size_t i = 0; i < writer_.tensors().size(); ++i) bytes += bytes_read_for(output(i));
    return bytes;
  }
  // True when it failed since bytes did not come over the network.
  bool is_cut() const { return far_.is_cut(); }

 private:
  bool is_whole(size_t tensor) const { return whole_bytes(output(tensor)) <= memory_.whole; }

  // `step`: the number of the first in far_.
  void run_whole(std::span<const size_t> todo, size_t step, MergeReport& report) {
    Station stations[2];
    begin_read(stations[0], todo[0]);
    for (size_t i = 0; i < todo.size(); ++i) {
      Station& now = stations[i % 2];
      Station& next = stations[(i + 1) % 2];
      now.reading.get();
      far_.finish(step + i);
      if (i + 1 < todo.size()) begin_read(next, todo[i + 1]);
      now.wait_written();
      const std::span<const std::byte> result = compute(now, report);
      next.wait_written();  // the writer takes one tensor after the other
      now.writing = std::async(std::launch::async, [this, tensor = todo[i], result] {
        writer_.write(tensor, 0, result);
      });
      tell(todo[i]);
    }
    for (Station& s : stations) s.wait_written();
  }

  void run_in_blocks(std::span<const size_t> todo, size_t step, MergeReport& report) {
    for (const size_t tensor : todo) {
      const OutputTensor& t = output(tensor);
      const StreamedInputs in(t.sources(), block_elements(t, memory_.block));
      StreamedOutput out(writer_, tensor);
      count(t, inputs_.merge(t, in, out, threads_), report);
      far_.finish(step++);
      out.finish();
      tell(tensor);
    }
  }

  const OutputTensor& output(size_t tensor) const {
    return inputs_.tensor(writer_.tensors()[tensor].name);
  }

  void begin_read(Station& s, size_t tensor) {
    s.tensor = tensor;
    s.reading = std::async(std::launch::async, [this, &s] {
      const OutputTensor& t = output(s.tensor);
      s.inputs = read_stored(t.sources(), {0, unit_count(t.info)}, s.in);
    });
  }

  std::span<const std::byte> compute(Station& s, MergeReport& report) {
    const OutputTensor& t = output(s.tensor);
    const size_t lead = writer_.lead(s.tensor, 0), size = byte_size(t.info);
    const std::span<std::byte> result = s.out.get(lead + size).subspan(lead);
    MemoryOutput out(result, dtype_size(t.info.dtype));
    count(t, inputs_.merge(t, MemoryInputs(s.inputs), out, threads_), report);
    return result;
  }

  static void count(const OutputTensor& t, bool copied, MergeReport& report) {
    report.parameters += static_cast<uint64_t>(element_count(t.info.shape));
    ++(t.refined ? report.refined : copied ? report.copied : report.merged);
    if (copied || t.refined)
      (t.refined ? report.refined_tensors : report.copied_tensors).push_back(t.info.name);
  }

  void tell(size_t tensor) {
    done_ += bytes_read_for(output(tensor)) + byte_size(output(tensor).info);
    if (progress_) progress_({"merging", "bytes", done_, total_});
  }

  const MergeInputs& inputs_;
  const ProgressFn& progress_;
  MemoryPlan memory_;
  TensorWriter& writer_;
  Threads& threads_;
  FarReads far_;
  uint64_t done_ = 0, total_ = 0;
};

// The tensors that are merged.
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

// The memory that is needed besides the tensors: the program, the buffers of threads, and the most
// that a survey (a few per cent of the elements) and a source that is no file (a stage) keep of a
// tensor.
uint64_t other_memory(const MergeInputs& inputs, size_t threads) {
  constexpr uint64_t kProgram = 24 << 20;
  uint64_t most = 0;
  for (const OutputTensor& t : inputs.tensors()) {
    uint64_t kept = whole_bytes(t) / 16;
    for (const MergeSource& s : t.sources()) kept += s.input->source->read_cost(*s.tensor).memory;
    most = std::max(most, kept);
  }
  return kProgram + most +
         threads * (2 * inputs.models().size() + 2) * kSlotElements * sizeof(float);
}

// The smallest block that is worth a read; a smaller tensor is its own.
uint64_t least_block(const MergeInputs& inputs) {
  uint64_t largest = 0;
  for (const OutputTensor& t : inputs.tensors()) largest = std::max(largest, whole_bytes(t));
  return std::min<uint64_t>(largest, 4 << 20);
}

constexpr uint64_t kLeastAhead = 16 << 20;  // bytes from the network; less would make it wait

// How often a tensor is in memory: two at a time, and once more as it came over the network.
uint64_t copies(bool far) { return far ? 3 : 2; }

// The smallest limit that can be kept.
uint64_t least_memory(const MergeInputs& inputs, size_t threads, bool far) {
  return other_memory(inputs, threads) + (far ? kLeastAhead : 0) +
         copies(far) * least_block(inputs);
}

// Fits the limit; Error(kResource) when even the smallest blocks do not.
MemoryPlan plan_memory(const MergeInputs& inputs, size_t threads, uint64_t limit) {
  MemoryPlan plan;
  const bool far = reads_far(inputs);
  if (!far) plan.ahead = 0;
  if (limit == 0) return plan;
  const uint64_t least = least_memory(inputs, threads, far);
  if (limit < least)
    throw resource_error("--max-memory {}: this merge needs at least {} bytes", limit, least);
  if (far) plan.ahead = std::min(plan.ahead, kLeastAhead + (limit - least) / 4);
  const uint64_t other = other_memory(inputs, threads) + plan.ahead;
  plan.whole = std::min(plan.whole, (limit - other) / copies(far));
  plan.block = std::min(plan.block, (limit - other) / copies(far));
  return plan;
}

MergeCost cost_of(const MergeInputs& inputs, size_t threads, uint64_t max_memory) {
  const MemoryPlan plan = plan_memory(inputs, threads, max_memory);
  MergeCost cost;
  uint64_t largest = 0;
  for (const OutputTensor& t : inputs.tensors()) {
    const uint64_t whole = whole_bytes(t);
    cost.tensors += 1;
    cost.parameters += static_cast<uint64_t>(element_count(t.info.shape));
    cost.bytes_read += bytes_read_for(t);
    cost.bytes_fetched += far_bytes(t);
    cost.bytes_written += byte_size(t.info);
    largest = std::max(largest, whole <= plan.whole ? whole : plan.block);
  }
  if (inputs.tokenizer().plan) cost.vocabulary = inputs.tokenizer().plan->rows();
  const uint64_t other = other_memory(inputs, threads) + plan.ahead;
  cost.peak_memory = other + copies(plan.ahead > 0) * largest;
  cost.least_memory = least_memory(inputs, threads, plan.ahead > 0);
  return cost;
}

}  // namespace

namespace {

std::vector<std::string> fingerprints(const MergeInputs& inputs) {
  std::vector<std::string> all;
  for (const InputModel* model : inputs.models()) all.push_back(model->fingerprint());
  return all;
}

// A hash of all that decides the bytes of OUT.
std::string plan_hash(const MergeInputs& inputs, const MergeOptions& options,
                      const std::vector<std::string>& models) {
  const Json plan = {{"lewis", version_and_build()},
                     {"recipe", to_yaml(inputs.recipe(), false)},
                     {"factors", hash_of_factors(inputs.recipe())},
                     {"models", models},
                     {"seed", options.seed},
                     {"shard_bytes", options.shard_bytes},
                     {"name", options.out.filename().string()},
                     {"tokenizer", !options.no_tokenizer},
                     {"vocabulary", fingerprint(inputs.tokenizer())},
                     {"refined", options.refined ? options.refined->fingerprint() : ""}};
  return sha256_hex(dump_json(plan));
}

Json about(const MergeInputs& inputs, const MergeOptions& options, const PublicNames& names,
           const std::vector<std::string>& models) {
  Json sources = Json::array();
  for (size_t m = 0; m < models.size(); ++m) {
    sources.push_back({{"model", names.of(inputs.models()[m]->name)}, {"fingerprint", models[m]}});
  }
  Json about = {
      {"lewis_version", version_and_build()}, {"seed", options.seed}, {"sources", sources}};
  if (!options.job.empty()) about["job"] = options.job;
  return about;
}

}  // namespace

MergePreview preview_merge(const Recipe& recipe, const MergeOptions& options,
                           const Threads& threads) {
  const PublicNames names(recipe, options.model_ids);
  const MergeInputs inputs(
      recipe, {.seed = options.seed, .threads = threads.count(), .tokenizers = options.tokenizers});
  MergePreview preview{cost_of(inputs, threads.count(), options.max_memory), inputs.warnings(),
                       plan_hash(inputs, options, fingerprints(inputs))};
  std::ranges::copy(check_companions(inputs, !options.no_tokenizer),
                    std::back_inserter(preview.notes));
  std::ranges::copy(names.notes(), std::back_inserter(preview.notes));
  return preview;
}

namespace {

bool is_in_parts(const MergeOptions& options) { return options.part || options.finish; }

void refuse_changed_models(const MergeInputs& inputs, const std::vector<std::string>& models) {
  if (fingerprints(inputs) == models) return;
  throw input_error("{}: a model was changed while it was read", inputs.recipe().file.string());
}

// The bytes that are read for each written tensor.
std::map<std::string, uint64_t> reads_of(const MergeInputs& inputs,
                                         const std::vector<WrittenTensor>& written) {
  std::map<std::string, uint64_t> reads;
  for (const WrittenTensor& t : written) {
    for (const WrittenPart& part : t.parts)
      reads[t.info.name] += bytes_read_for(inputs.tensor(part.name));
  }
  return reads;
}

std::unique_ptr<TensorWriter> writer_of_share(const MergeInputs& inputs,
                                              const MergeOptions& options,
                                              const std::vector<WrittenTensor>& written,
                                              const std::vector<std::string>& models,
                                              Threads& threads) {
  return std::make_unique<PartWriter>(
      options.out, infos_of(written),
      PartOptions{.shard_bytes = options.shard_bytes,
                  .force = options.force,
                  .plan = plan_hash(inputs, options, models),
                  .part = options.part,
                  .read_bytes = reads_of(inputs, written),
                  .check_inputs = [&inputs, models] { refuse_changed_models(inputs, models); },
                  .progress = options.progress},
      threads);
}

std::unique_ptr<TensorWriter> open_writer(const MergeInputs& inputs, const MergeOptions& options,
                                          const std::vector<WrittenTensor>& written,
                                          const std::vector<std::string>& models,
                                          Threads& threads) {
  if (is_in_parts(options)) return writer_of_share(inputs, options, written, models, threads);
  return std::make_unique<ModelWriter>(options.out, infos_of(written),
                                       WriterOptions{.shard_bytes = options.shard_bytes,
                                                     .force = options.force,
                                                     .resume = options.resume,
                                                     .require_partial = options.require_partial,
                                                     .plan = plan_hash(inputs, options, models)});
}

// The report for the record of the run, which stands in OUT: with what other workers have written.
MergeReport of_all_parts(MergeReport report, const MergeInputs& inputs, const TensorWriter& share) {
  std::set<std::string_view> own;
  for (const TensorInfo& t : share.tensors()) own.insert(t.name);
  for (const OutputTensor& t : inputs.tensors()) {
    if (own.contains(t.info.name)) continue;
    ++report.resumed;
    report.resumed_tensors.push_back(t.info.name);
    report.bytes_read += bytes_read_for(t);
    report.bytes_written += byte_size(t.info);
  }
  report.shards = share.state().shards;
  return report;
}

// What commit() has brought about.
void add_state(const WrittenState& state, MergeReport& report) {
  report.complete = state.complete;
  report.all_shards = state.shards;
  report.shards_left = state.shards_left;
  std::ranges::copy(state.notes, std::back_inserter(report.warnings));
}

}  // namespace

std::vector<ShardCost> shard_costs(const Recipe& recipe, const MergeOptions& options,
                                   const Threads& threads) {
  const MergeInputs inputs(
      recipe, {.seed = options.seed, .threads = threads.count(), .tokenizers = options.tokenizers});
  const std::vector<WrittenTensor> written = inputs.written();
  const auto reads = reads_of(inputs, written);
  std::vector<ShardCost> costs;
  for (const auto& shard : sharded(infos_of(written), options.shard_bytes).shards) {
    ShardCost& cost = costs.emplace_back(ShardCost{shard->name(), shard->file_bytes(), 0});
    for (const auto& entry : shard->entries()) cost.bytes_read += reads.at(entry.info.name);
  }
  return costs;
}

MergeReport merge(const Recipe& recipe, const MergeOptions& options, Threads& threads) {
  // A worker may find that others have completed OUT; it looks itself.
  is_in_parts(options) ? refuse_out_in_sources(options.out, source_folders(recipe))
                       : check_merge_target(recipe, options);
  const MergeInputs inputs(recipe, {.seed = options.seed,
                                    .threads = threads.count(),
                                    .tokenizers = options.tokenizers,
                                    .refined = options.refined});
  const MemoryPlan memory = plan_memory(inputs, threads.count(), options.max_memory);
  const std::vector<std::string> models = fingerprints(inputs);
  MergeReport report;
  report.warnings = inputs.warnings();
  const std::vector<WrittenTensor> written = inputs.written();
  const auto writer = open_writer(inputs, options, written, models, threads);
  FusingWriter parts(*writer, written, outputs_of(inputs));
  Merge work(inputs, options.progress, memory, parts, threads);
  try {
    const std::filesystem::path out = resolved_out(options.out);
    work.run(report, out.parent_path());
  } catch (const Error& e) {
    if (e.code() != ExitCode::kInterrupted && !work.is_cut()) throw;
    writer->keep_partial();
    throw Error(e.code(), fmt::format("{}; the finished shards stay in {}.partial, {} goes on",
                                      e.what(), options.out.string(),
                                      is_in_parts(options) ? "the same command" : "--resume"));
  }
  refuse_changed_models(inputs, models);
  report.bytes_read = work.bytes_of_inputs();
  report.bytes_written = writer->tensor_bytes();
  report.shards = writer->shards();
  if (writer->completes()) {
    const PublicNames names(recipe, options.model_ids);
    const CardFacts facts{.name = options.out.filename().string(),
                          .names = names,
                          .seed = options.seed,
                          .shard_bytes = options.shard_bytes,
                          .tokenizer = !options.no_tokenizer};
    std::ranges::copy(add_companions(inputs, facts, *writer), std::back_inserter(report.warnings));
    refuse_changed_models(inputs, models);
    if (options.run_record)
      writer->add_note(std::string(kRunRecordName),
                       options.run_record(of_all_parts(report, inputs, parts)));
    writer->commit(about(inputs, options, names, models));
  }
  add_state(writer->state(), report);
  return report;
}

}  // namespace lewis
