#include "merge/engine.h"

#include <algorithm>
#include <deque>
#include <future>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>

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
#include "merge/common/task_matrices.h"
#include "merge/far_reads.h"
#include "merge/fp8_blocks.h"
#include "merge/fusing_writer.h"
#include "merge/inputs.h"
#include "merge/model_card.h"
#include "merge/tensor/merge_tensor.h"
#include "merge/tensor/streaming.h"
#include "recipe/outputs.h"

namespace lewis {
namespace {

// One of the models that are written, and what is told about it.
struct Share {
  size_t result = 0;  // of MergeInputs::results()
  TensorWriter* writer = nullptr;
  MergeReport* report = nullptr;
};

// A tensor that is to be merged, with the shares that want it.
struct Step {
  struct Place {
    size_t share = 0, tensor = 0;  // into the shares, and into TensorWriter::tensors()
  };
  const OutputTensor* tensor = nullptr;
  std::vector<Place> places;
};

// One tensor on its way through read, merge and write. Two take turns: while one is merged, the
// inputs of the next are read into the other, and the results of the last are written from it.
struct Station {
  std::vector<PageBuffer> in;                       // per model
  std::vector<PageBuffer> out;                      // per place of the step
  std::vector<std::span<const std::byte>> results;  // in them
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

// Bytes of a tensor with all its inputs and results.
uint64_t whole_bytes(const OutputTensor& tensor, size_t results) {
  uint64_t bytes = results * byte_size(tensor.info);
  for (const MergeSource& s : tensor.sources()) bytes += byte_size(*s.tensor);
  return bytes;
}

// How much of a tensor is in memory, its inputs and its results together.
struct MemoryPlan {
  uint64_t whole = 512 << 20;  // tensors up to this size whole, two at a time
  uint64_t block = 128 << 20;  // of larger ones, two blocks at a time
  uint64_t ahead = 256 << 20;  // bytes that come from the network before they are needed
};

int64_t block_elements(const OutputTensor& tensor, size_t results, uint64_t block_bytes) {
  uint64_t bytes_per_element = results * dtype_size(tensor.info.dtype);
  for (const MergeSource& s : tensor.sources()) bytes_per_element += dtype_size(s.tensor->dtype);
  return std::max<int64_t>(1, static_cast<int64_t>(block_bytes / bytes_per_element));
}

class Merge {
 public:
  // The shares' writers have the same tensors, or some of them.
  Merge(const MergeInputs& inputs, const ProgressFn& progress, const MemoryPlan& memory,
        std::vector<Share> shares, Threads& threads)
      : inputs_(inputs),
        progress_(progress),
        memory_(memory),
        shares_(std::move(shares)),
        threads_(threads) {}

  // `spool`: a folder for bytes that came from the network and are too many for the memory.
  void run(const std::filesystem::path& spool) {
    const std::vector<Step> todo = steps();
    for (const Step& step : todo) {
      total_ += cost_of(step);
      far_.add(*step.tensor, !is_whole(step));
    }
    far_.begin({memory_.ahead, spool});
    for (size_t i = 0; i < todo.size();) {
      const bool whole = is_whole(todo[i]);
      size_t end = i;
      while (end < todo.size() && is_whole(todo[end]) == whole) ++end;
      const auto part = std::span(todo).subspan(i, end - i);
      whole ? run_whole(part, i) : run_in_blocks(part, i);
      i = end;
    }
    std::ranges::copy(far_.end(), std::back_inserter(shares_[0].report->warnings));
  }
  // Of all tensors of a share, finished ones included.
  uint64_t bytes_of_inputs(size_t share) const {
    uint64_t bytes = 0;
    for (const TensorInfo& t : shares_[share].writer->tensors())
      bytes += bytes_read_for(inputs_.tensor(t.name));
    return bytes;
  }
  // True when it failed since bytes did not come over the network.
  bool is_cut() const { return far_.is_cut(); }

 private:
  // What is not finished: in the order of the first share, then what only others want.
  std::vector<Step> steps() const {
    std::vector<Step> todo;
    std::unordered_map<const OutputTensor*, size_t> known;
    for (size_t s = 0; s < shares_.size(); ++s) {
      const Share& share = shares_[s];
      for (size_t i = 0; i < share.writer->tensors().size(); ++i) {
        const std::string& name = share.writer->tensors()[i].name;
        if (share.writer->is_done(i)) {
          ++share.report->resumed;
          share.report->resumed_tensors.push_back(name);
          continue;
        }
        const OutputTensor& tensor = inputs_.tensor(name);
        const auto [place, is_new] =
            shares_.size() > 1 ? known.emplace(&tensor, todo.size()) : std::pair(known.end(), true);
        if (is_new) todo.push_back({&tensor, {}});
        todo[is_new ? todo.size() - 1 : place->second].places.push_back({s, i});
      }
    }
    return todo;
  }

  bool is_whole(const Step& step) const {
    return whole_bytes(*step.tensor, inputs_.results()) <= memory_.whole;
  }

  static uint64_t cost_of(const Step& step) {
    return bytes_read_for(*step.tensor) + step.places.size() * byte_size(step.tensor->info);
  }

  // `number`: that of the first step in far_.
  void run_whole(std::span<const Step> todo, size_t number) {
    Station stations[2];
    begin_read(stations[0], todo[0]);
    for (size_t i = 0; i < todo.size(); ++i) {
      Station& now = stations[i % 2];
      Station& next = stations[(i + 1) % 2];
      now.reading.get();
      far_.finish(number + i);
      if (i + 1 < todo.size()) begin_read(next, todo[i + 1]);
      now.wait_written();
      compute(now, todo[i]);
      next.wait_written();  // the writers take one tensor after the other
      now.writing = std::async(std::launch::async, [this, &now, &step = todo[i]] {
        for (size_t p = 0; p < step.places.size(); ++p)
          writer(step.places[p]).write(step.places[p].tensor, 0, now.results[p]);
      });
      tell(todo[i]);
    }
    for (Station& s : stations) s.wait_written();
  }

  void run_in_blocks(std::span<const Step> todo, size_t number) {
    for (const Step& step : todo) {
      const OutputTensor& t = *step.tensor;
      const StreamedInputs in(t.sources(), block_elements(t, inputs_.results(), memory_.block));
      std::deque<StreamedOutput> outs;
      std::vector<MergeInputs::Wanted> wanted;
      for (const Step::Place& p : step.places) {
        outs.emplace_back(writer(p), p.tensor);
        wanted.push_back({shares_[p.share].result, &outs.back()});
      }
      inputs_.merge(t, in, wanted, threads_);
      count(step, wanted);
      far_.finish(number++);
      for (StreamedOutput& out : outs) out.finish();
      tell(step);
    }
  }

  TensorWriter& writer(const Step::Place& place) const { return *shares_[place.share].writer; }

  void begin_read(Station& s, const Step& step) {
    s.reading = std::async(std::launch::async, [&s, &t = *step.tensor] {
      s.inputs = read_stored(t.sources(), {0, unit_count(t.info)}, s.in);
    });
  }

  void compute(Station& s, const Step& step) {
    const OutputTensor& t = *step.tensor;
    s.out.resize(std::max(s.out.size(), step.places.size()));
    s.results.clear();
    std::deque<MemoryOutput> outs;
    std::vector<MergeInputs::Wanted> wanted;
    for (size_t p = 0; p < step.places.size(); ++p) {
      const Step::Place& place = step.places[p];
      const size_t lead = writer(place).lead(place.tensor, 0), size = byte_size(t.info);
      const std::span<std::byte> result = s.out[p].get(lead + size).subspan(lead);
      s.results.push_back(result);
      outs.emplace_back(result, dtype_size(t.info.dtype));
      wanted.push_back({shares_[place.share].result, &outs.back()});
    }
    inputs_.merge(t, MemoryInputs(s.inputs), wanted, threads_);
    count(step, wanted);
  }

  void count(const Step& step, std::span<const MergeInputs::Wanted> wanted) {
    const OutputTensor& t = *step.tensor;
    for (size_t p = 0; p < wanted.size(); ++p) {
      MergeReport& report = *shares_[step.places[p].share].report;
      const bool copied = wanted[p].copied;
      report.parameters += static_cast<uint64_t>(element_count(t.info.shape));
      ++(t.refined ? report.refined : copied ? report.copied : report.merged);
      if (copied || t.refined)
        (t.refined ? report.refined_tensors : report.copied_tensors).push_back(t.info.name);
    }
  }

  void tell(const Step& step) {
    done_ += cost_of(step);
    if (progress_) progress_({"merging", "bytes", done_, total_});
  }

  const MergeInputs& inputs_;
  const ProgressFn& progress_;
  MemoryPlan memory_;
  std::vector<Share> shares_;
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

// The most that a survey keeps of a tensor: a few per cent of its elements, or whole matrices.
uint64_t survey_memory(const MergeInputs& inputs, const OutputTensor& t) {
  const MergeMethod& method = inputs.method_of(t);
  if (!method.matrices_held || !t.merged || !is_linear_layer(t.info.name, t.info.shape))
    return whole_bytes(t, inputs.results()) / 16;
  const size_t matrices = method.matrices_held(t.models.size()) + inputs.results();
  return matrices * static_cast<uint64_t>(element_count(t.info.shape)) * sizeof(double);
}

// Bytes of one tensor, in the order of MergeInputs::tensors(). Sources look every tensor up by its
// name, so what they say is asked for once.
struct TensorSizes {
  uint64_t whole = 0;          // with all inputs and results
  uint64_t read = 0, far = 0;  // that are read; those of them that come over a network
  uint64_t kept = 0;  // the most that a survey, a source that is no file (a stage) and the codes of
                      // float8 matrices take besides
};

std::vector<TensorSizes> sizes_of(const MergeInputs& inputs) {
  std::vector<TensorSizes> sizes;
  for (const OutputTensor& t : inputs.tensors()) {
    TensorSizes& of = sizes.emplace_back();
    of.whole = whole_bytes(t, inputs.results());
    of.kept = survey_memory(inputs, t);
    if (inputs.fp8().contains(t.info.name))
      of.kept += inputs.results() * static_cast<uint64_t>(element_count(t.info.shape));
    for (const MergeSource& s : t.sources()) {
      const ReadCost cost = s.input->source->read_cost(*s.tensor);
      of.read += cost.disk_bytes;
      of.kept += cost.memory;
      for (const FilePlace& place : cost.places) of.far += place.size;
    }
  }
  return sizes;
}

// The most that any tensor has of something.
uint64_t most(std::span<const TensorSizes> sizes, uint64_t TensorSizes::*what) {
  uint64_t most = 0;
  for (const TensorSizes& s : sizes) most = std::max(most, s.*what);
  return most;
}

// The memory that is needed besides the tensors: the program, the buffers of threads, and what is
// kept of a tensor.
uint64_t other_memory(const MergeInputs& inputs, std::span<const TensorSizes> sizes,
                      size_t threads) {
  constexpr uint64_t kProgram = 24 << 20;
  return kProgram + most(sizes, &TensorSizes::kept) +
         threads * (2 * inputs.models().size() + inputs.results() + 1) * kSlotElements *
             sizeof(float);
}

constexpr uint64_t kLeastAhead = 16 << 20;  // bytes from the network; less would make it wait

// How often a tensor is in memory: two at a time, and once more as it came over the network.
uint64_t copies(bool far) { return far ? 3 : 2; }

// The smallest limit that can be kept. A block of less than 4 MiB is not worth a read; a smaller
// tensor is its own.
uint64_t least_memory(const MergeInputs& inputs, std::span<const TensorSizes> sizes, size_t threads,
                      bool far) {
  const uint64_t block = std::min<uint64_t>(most(sizes, &TensorSizes::whole), 4 << 20);
  return other_memory(inputs, sizes, threads) + (far ? kLeastAhead : 0) + copies(far) * block;
}

// Fits the limit; Error(kResource) when even the smallest blocks do not.
MemoryPlan plan_memory(const MergeInputs& inputs, std::span<const TensorSizes> sizes,
                       size_t threads, uint64_t limit) {
  MemoryPlan plan;
  const bool far = most(sizes, &TensorSizes::far) > 0;
  if (!far) plan.ahead = 0;
  if (limit == 0) return plan;
  const uint64_t least = least_memory(inputs, sizes, threads, far);
  if (limit < least)
    throw resource_error("--max-memory {}: this merge needs at least {} bytes", limit, least);
  if (far) plan.ahead = std::min(plan.ahead, kLeastAhead + (limit - least) / 4);
  const uint64_t other = other_memory(inputs, sizes, threads) + plan.ahead;
  plan.whole = std::min(plan.whole, (limit - other) / copies(far));
  plan.block = std::min(plan.block, (limit - other) / copies(far));
  return plan;
}

// Bytes of a tensor as it is written.
uint64_t written_bytes(const MergeInputs& inputs, const OutputTensor& t) {
  const auto fp8 = inputs.fp8().find(t.info.name);
  return fp8 == inputs.fp8().end() ? byte_size(t.info)
                                   : byte_size(fp8->second.codes) + byte_size(fp8->second.scale);
}

MergeCost cost_of(const MergeInputs& inputs, size_t threads, uint64_t max_memory) {
  const std::vector<TensorSizes> sizes = sizes_of(inputs);
  const MemoryPlan plan = plan_memory(inputs, sizes, threads, max_memory);
  const bool far = plan.ahead > 0;
  MergeCost cost;
  uint64_t largest = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    const OutputTensor& t = inputs.tensors()[i];
    cost.tensors += 1;
    cost.parameters += static_cast<uint64_t>(element_count(t.info.shape));
    cost.bytes_read += sizes[i].read;
    cost.bytes_fetched += sizes[i].far;
    cost.bytes_written += inputs.results() * written_bytes(inputs, t);
    largest = std::max(largest, sizes[i].whole <= plan.whole ? sizes[i].whole : plan.block);
  }
  if (inputs.tokenizer().plan) cost.vocabulary = inputs.tokenizer().plan->rows();
  cost.peak_memory = other_memory(inputs, sizes, threads) + plan.ahead + copies(far) * largest;
  cost.least_memory = least_memory(inputs, sizes, threads, far);
  return cost;
}

}  // namespace

namespace {

std::vector<std::string> fingerprints(const MergeInputs& inputs) {
  std::vector<std::string> all;
  for (const InputModel* model : inputs.models()) all.push_back(model->fingerprint());
  return all;
}

// A hash of all that decides the bytes of OUT. `recipe`: that of the inputs, or of one output.
std::string plan_hash(const MergeInputs& inputs, const Recipe& recipe, const MergeOptions& options,
                      const std::vector<std::string>& models) {
  const Json plan = {{"lewis", version_and_build()},
                     {"recipe", to_yaml(recipe, false)},
                     {"factors", hash_of_factors(recipe)},
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

namespace {

// A model that is written: the recipe's own, or one of its outputs.
struct Target {
  Recipe recipe;
  size_t result = 0;  // of MergeInputs::results()
  MergeOptions options;
  std::unique_ptr<TensorWriter> writer{};
  std::unique_ptr<Fp8Writer> fp8{};       // of `writer`; null: no float8 is written
  std::unique_ptr<FusingWriter> parts{};  // of `fp8` or `writer`
  MergeReport report{};
};

Recipe recipe_of(const Recipe& recipe, size_t result) {
  return recipe.outputs.empty() ? recipe : recipe_of_output(recipe, result);
}

OpenOptions open_options(const MergeOptions& options, const Threads& threads) {
  return {.seed = options.seed,
          .threads = threads.count(),
          .tokenizers = options.tokenizers,
          .refined = options.refined,
          .gguf = options.gguf,
          .outputs = true};
}

}  // namespace

std::filesystem::path folder_of_output(const std::filesystem::path& out, const Recipe& recipe,
                                       size_t output) {
  return out / recipe.outputs.at(output).name;
}

MergePreview preview_merge(const Recipe& recipe, const MergeOptions& options,
                           const Threads& threads) {
  const PublicNames names(recipe, options.model_ids);
  const MergeInputs inputs(recipe, open_options(options, threads));
  MergePreview preview{cost_of(inputs, threads.count(), options.max_memory), inputs.warnings(), {}};
  const std::vector<std::string> models = fingerprints(inputs);
  for (size_t i = 0; i < inputs.results(); ++i) {
    MergeOptions one = options;
    if (!recipe.outputs.empty()) one.out = folder_of_output(options.out, recipe, i);
    preview.plans.push_back(plan_hash(inputs, recipe_of(recipe, i), one, models));
  }
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

std::unique_ptr<TensorWriter> writer_of_share(const MergeInputs& inputs, const Target& target,
                                              const std::vector<WrittenTensor>& written,
                                              const std::vector<std::string>& models,
                                              Threads& threads) {
  const MergeOptions& options = target.options;
  return std::make_unique<PartWriter>(
      options.out, with_fp8(infos_of(written), inputs.fp8()),
      PartOptions{.shard_bytes = options.shard_bytes,
                  .force = options.force,
                  .plan = plan_hash(inputs, target.recipe, options, models),
                  .part = options.part,
                  .read_bytes = reads_of(inputs, written),
                  .check_inputs = [&inputs, models] { refuse_changed_models(inputs, models); },
                  .progress = options.progress},
      threads);
}

std::unique_ptr<TensorWriter> open_writer(const MergeInputs& inputs, const Target& target,
                                          const std::vector<WrittenTensor>& written,
                                          const std::vector<std::string>& models,
                                          Threads& threads) {
  const MergeOptions& options = target.options;
  if (is_in_parts(options)) return writer_of_share(inputs, target, written, models, threads);
  return std::make_unique<ModelWriter>(
      options.out, with_fp8(infos_of(written), inputs.fp8()),
      WriterOptions{.shard_bytes = options.shard_bytes,
                    .force = options.force,
                    .resume = options.resume,
                    .require_partial = options.require_partial,
                    .plan = plan_hash(inputs, target.recipe, options, models)});
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

// Writes the small files and makes the model visible, where this process completes it.
void complete(const MergeInputs& inputs, const std::vector<std::string>& models, Target& target) {
  const MergeOptions& options = target.options;
  TensorWriter& writer = *target.writer;
  if (writer.completes()) {
    const PublicNames names(target.recipe, options.model_ids);
    const CardFacts facts{.name = options.out.filename().string(),
                          .names = names,
                          .seed = options.seed,
                          .shard_bytes = options.shard_bytes,
                          .tokenizer = !options.no_tokenizer};
    std::ranges::copy(add_companions(inputs, facts, writer),
                      std::back_inserter(target.report.warnings));
    refuse_changed_models(inputs, models);
    if (options.inspect) options.inspect(writer.readable());
    if (options.run_record)
      writer.add_note(std::string(kRunRecordName),
                      options.run_record(of_all_parts(target.report, inputs, *target.parts)));
    writer.commit(about(inputs, options, names, models));
  }
  add_state(writer.state(), target.report);
}

// Keeps what is finished of all targets, and says so.
[[noreturn]] void keep_and_throw(const Error& error, std::vector<Target>& targets) {
  for (const Target& t : targets) t.writer->keep_partial();
  const MergeOptions& first = targets[0].options;
  throw Error(error.code(),
              fmt::format("{}; the finished shards stay in {}.partial{}, {} goes on", error.what(),
                          first.out.string(), targets.size() > 1 ? " and beside it" : "",
                          is_in_parts(first) ? "the same command" : "--resume"));
}

void merge_targets(const Recipe& recipe, std::vector<Target>& targets, Threads& threads) {
  const MergeOptions& common = targets[0].options;
  for (const Target& t : targets) {
    // A worker may find that others have completed OUT; it looks itself.
    is_in_parts(common) ? refuse_out_in_sources(t.options.out, source_folders(recipe))
                        : check_merge_target(recipe, t.options);
  }
  const MergeInputs inputs(recipe, open_options(common, threads));
  const MemoryPlan memory =
      plan_memory(inputs, sizes_of(inputs), threads.count(), common.max_memory);
  const std::vector<std::string> models = fingerprints(inputs);
  const std::vector<WrittenTensor> written = inputs.written();
  const std::vector<TensorInfo> merged = outputs_of(inputs);
  std::vector<Share> shares;
  for (Target& t : targets) {
    t.report.warnings = inputs.warnings();
    t.writer = open_writer(inputs, t, written, models, threads);
    TensorWriter* inner = t.writer.get();
    if (!inputs.fp8().empty()) {
      t.fp8 = std::make_unique<Fp8Writer>(*t.writer, infos_of(written), inputs.fp8(),
                                          *inputs.main().quantized);
      inner = t.fp8.get();
    }
    t.parts = std::make_unique<FusingWriter>(*inner, written, merged);
    shares.push_back({t.result, t.parts.get(), &t.report});
  }
  Merge work(inputs, common.progress, memory, shares, threads);
  try {
    work.run(resolved_out(common.out).parent_path());
  } catch (const Error& e) {
    if (e.code() != ExitCode::kInterrupted && !work.is_cut()) throw;
    keep_and_throw(e, targets);
  }
  refuse_changed_models(inputs, models);
  for (size_t i = 0; i < targets.size(); ++i) {
    MergeReport& report = targets[i].report;
    if (const std::string note = targets[i].fp8 ? targets[i].fp8->note() : ""; !note.empty())
      report.warnings.push_back(note);
    report.bytes_read = work.bytes_of_inputs(i);
    report.bytes_written = targets[i].writer->tensor_bytes();
    report.shards = targets[i].writer->shards();
    complete(inputs, models, targets[i]);
  }
}

}  // namespace

std::vector<ShardCost> shard_costs(const Recipe& recipe, const MergeOptions& options,
                                   const Threads& threads) {
  const MergeInputs inputs(recipe, open_options(options, threads));
  const std::vector<WrittenTensor> written = inputs.written();
  const auto reads = reads_of(inputs, written);
  const uint64_t outputs = std::max<uint64_t>(1, recipe.outputs.size());
  std::vector<ShardCost> costs;
  for (const auto& shard : sharded(infos_of(written), options.shard_bytes).shards) {
    ShardCost& cost =
        costs.emplace_back(ShardCost{shard->name(), outputs * shard->file_bytes(), 0});
    for (const auto& entry : shard->entries()) cost.bytes_read += reads.at(entry.info.name);
  }
  return costs;
}

MergeReport merge(const Recipe& recipe, const MergeOptions& options, Threads& threads) {
  refuse_outputs(recipe, "merge()");
  std::vector<Target> targets;
  targets.push_back({recipe, 0, options});
  merge_targets(recipe, targets, threads);
  return targets[0].report;
}

std::vector<MergeReport> merge_outputs(const Recipe& recipe, const std::vector<OutputJob>& jobs,
                                       Threads& threads) {
  std::vector<Target> targets;
  for (const OutputJob& job : jobs)
    targets.push_back({recipe_of_output(recipe, job.output), job.output, job.options});
  merge_targets(recipe, targets, threads);
  std::vector<MergeReport> reports;
  for (Target& t : targets) reports.push_back(std::move(t.report));
  return reports;
}

}  // namespace lewis
