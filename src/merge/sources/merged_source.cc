#include "merge/sources/merged_source.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <mutex>

#include "base/config_json.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/page_buffer.h"
#include "merge/inputs.h"
#include "merge/model_card.h"
#include "recipe/named_models.h"

namespace lewis {
namespace {

class MergedSource final : public TensorSource {
 public:
  MergedSource(const Recipe& recipe, const OpenOptions& options)
      : inputs_(recipe, options),
        label_(recipe.name.empty() ? recipe.file.string() : recipe.name),
        threads_(options.threads),
        room_(options.keep_bytes) {
    for (const OutputTensor& t : inputs_.tensors()) tensors_.push_back(t.info);
  }

  const MergeInputs& inputs() const { return inputs_; }
  const std::string& label() const override { return label_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }

  void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const override {
    std::lock_guard lock(mutex_);
    const size_t begin = static_cast<size_t>(first) * dtype_size(tensor.dtype);
    std::ranges::copy(merged(tensor).subspan(begin, out.size()), out.begin());
  }

  ReadCost read_cost(const TensorInfo& tensor) const override {
    ReadCost cost{0, byte_size(tensor)};
    for (const MergeSource& s : inputs_.tensor(tensor.name).sources()) {
      const ReadCost more = s.input->source->read_cost(*s.tensor);
      cost.disk_bytes += more.disk_bytes;
      cost.memory += byte_size(*s.tensor) + more.memory;
      std::ranges::copy(more.places, std::back_inserter(cost.places));
    }
    return cost;
  }

 private:
  std::span<const std::byte> merged(const TensorInfo& tensor) const {
    if (const auto kept = kept_.find(tensor.name); kept != kept_.end()) return kept->second;
    if (last_ == tensor.name) return merged_;
    last_.clear();
    merge(inputs_.tensor(tensor.name));
    last_ = tensor.name;
    if (merged_.size() <= room_) {
      room_ -= merged_.size();
      kept_.emplace(tensor.name, std::vector<std::byte>(merged_.begin(), merged_.end()));
    }
    return merged_;
  }

  void merge(const OutputTensor& t) const {
    std::vector<StoredTensor> stored = read_stored(t.sources(), {0, unit_count(t.info)}, buffers_);
    if (out_.capacity() / 4 > byte_size(t.info)) out_ = {};
    merged_ = out_.get(byte_size(t.info));
    MemoryOutput output(merged_, dtype_size(t.info.dtype));
    inputs_.merge(t, MemoryInputs(std::move(stored)), output, threads_);
    // Embeddings are far larger than all other tensors: their buffers are not held for those.
    size_t held = 0;
    for (const PageBuffer& buffer : buffers_) held += buffer.capacity();
    if (held > kMostHeld) buffers_.clear();
  }

  static constexpr size_t kMostHeld = size_t{64} << 20;  // bytes of inputs between two tensors

  MergeInputs inputs_;
  std::string label_;
  std::vector<TensorInfo> tensors_;
  mutable Threads threads_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::vector<std::byte>, std::less<>> kept_;
  mutable uint64_t room_;     // bytes that kept_ may still take
  mutable std::string last_;  // the tensor that is in merged_
  mutable std::vector<PageBuffer> buffers_;
  mutable PageBuffer out_;
  mutable std::span<std::byte> merged_;
};

// The recipe's YAML with numbers for its models and file names for everything else that is a place:
// the same merge may be asked for by other paths.
std::string text_without_places(const Recipe& recipe) {
  std::map<std::string, size_t> numbers;
  const auto rename = [&](NameKind kind, const std::string& written) {
    if (kind != NameKind::kModel) return std::filesystem::path(written).filename().string();
    const size_t number = numbers.try_emplace(written, numbers.size()).first->second;
    return "#" + std::to_string(number);
  };
  return renamed(to_yaml(recipe, false), "", rename,
                 [](std::string_view comment) { return std::string(comment); });
}

}  // namespace

InputModel open_stage(const Recipe& recipe, const OpenOptions& options) {
  check_fp8(recipe);
  Recipe plain = recipe;
  plain.fp8_block = false;  // it says how files are written
  const auto source = std::make_shared<const MergedSource>(plain, options);
  const MergeInputs& inputs = source->inputs();
  InputModel model;
  model.source = source;
  model.notes = inputs.warnings();
  if (recipe.fp8_block) {
    model.notes.push_back(fmt::format(
        "{}: out_dtype: fp8_block: a recipe that is merged while it is read has the values before "
        "they are rounded to float8; merge it first to run the float8 model",
        source->label()));
  }
  if (inputs.recipe().experts != ExpertTensors::kSplit)
    model.fused_experts = inputs.main().fused_experts;
  model.folder = inputs.main().folder;
  model.changed_files = changed_files_of(inputs);
  model.config_text = config_of(inputs);
  if (!model.config_text.empty()) model.config = parse_config(model.config_text, "config.json");
  model.fingerprint = [source, seed = options.seed, refined = options.refined] {
    const Recipe& merged = source->inputs().recipe();
    std::string all = text_without_places(merged) + hash_of_factors(merged) + std::to_string(seed);
    for (const InputModel* input : source->inputs().models()) all += input->fingerprint();
    all += fingerprint(source->inputs().tokenizer());
    if (refined) all += refined->fingerprint();
    return sha256_hex(all);
  };
  return model;
}

}  // namespace lewis
