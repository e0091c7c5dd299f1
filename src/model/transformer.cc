#include "model/transformer.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <future>
#include <map>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "base/page_buffer.h"
#include "io/expert_tensors.h"
#include "io/extra_parts.h"
#include "io/layer_name.h"
#include "io/tensor_names.h"
#include "io/tied_head.h"
#include "model/block_weights.h"
#include "model/mixer.h"
#include "model/xielu.h"

namespace lewis {
namespace {

std::string embedding_name(const ModelSpec& spec) {
  return fmt::format("{}{}.weight", spec.prefix, spec.embeddings);
}
std::string head_name(const ModelSpec& spec) { return spec.head + "weight"; }

// Half and single precision mark NaN and infinity with an exponent of all ones.
template <typename T>
[[gnu::always_inline]] inline bool all_finite_bits(const std::byte* data, size_t n, T exponent) {
  T bad = 0;
  for (size_t i = 0; i < n; ++i) {
    T bits;
    std::memcpy(&bits, data + i * sizeof(T), sizeof(T));
    bad |= static_cast<T>((bits & exponent) == exponent);
  }
  return bad == 0;
}

LEWIS_VECTORIZED bool finite_16(const std::byte* data, size_t n, uint16_t exponent) {
  return all_finite_bits(data, n, exponent);
}

LEWIS_VECTORIZED bool finite_32(const std::byte* data, size_t n, uint32_t exponent) {
  return all_finite_bits(data, n, exponent);
}

bool stored_finite(DType dtype, std::span<const std::byte> bytes) {
  const size_t n = bytes.size() / dtype_size(dtype);
  return dtype == DType::kF32    ? finite_32(bytes.data(), n, 0x7f800000)
         : dtype == DType::kBF16 ? finite_16(bytes.data(), n, 0x7f80)
                                 : finite_16(bytes.data(), n, 0x7c00);
}

bool stored_finite(DType dtype, std::span<const std::byte> bytes, Threads& threads) {
  constexpr size_t kPiece = 1 << 19;
  std::atomic<bool> finite = true;
  threads.run((bytes.size() + kPiece - 1) / kPiece, [&](size_t i) {
    const size_t n = std::min(kPiece, bytes.size() - i * kPiece);
    if (!stored_finite(dtype, bytes.subspan(i * kPiece, n))) finite = false;
  });
  return finite;
}

// Whether a tensor makes keys and values of a layer that reads those of another layer.
bool is_unread_key(const ModelSpec& spec, std::string_view name) {
  const auto layer = tensor_layer(name);
  return layer && *layer < spec.layers &&
         spec.layer[static_cast<size_t>(*layer)].kv_source != kNoSource && makes_keys(name);
}

// Whether a tensor belongs to layers that predict further tokens or to a tower: they are not run.
bool is_extra_of(const ModelSpec& spec, std::string_view name) {
  const auto part = extra_part(name, spec.mtp_layers > 0 ? spec.layers : 0);
  if (!part || part->kind == ExtraKind::kTower) return part.has_value();
  return tensor_layer(name).value_or(0) < spec.layers + std::max<int64_t>(1, spec.mtp_layers);
}

std::string xielu_place(const ModelSpec& spec, int64_t layer) {
  return fmt::format("{}layers.{}.mlp.act_fn.", spec.prefix, layer);
}

// Early files lack beta and eps, which are not learned.
Xielu load_xielu(const TensorSource& source, const std::string& place) {
  const auto value = [&](const char* name, std::optional<float> otherwise) {
    const TensorInfo* found = source.find(place + name);
    if (!found && otherwise) return *otherwise;
    const TensorInfo& tensor = source.get(place + name);
    const std::vector<float> values = source.read_floats(tensor);
    if (values.size() == 1 && std::isfinite(values[0])) return values[0];
    throw input_error("{}: tensor {} has shape {}, expected one finite value", source.label(),
                      tensor.name, to_string(tensor.shape));
  };
  return {value("alpha_p", {}), value("alpha_n", {}), value("beta", 0.5f), value("eps", -1e-6f)};
}

// The source with its experts one by one, where the spec asks for it; null where it is as needed.
std::shared_ptr<const TensorSource> show_experts(const TensorSource& source,
                                                 const ModelSpec& spec) {
  if (!spec.experts.shown_split) return nullptr;
  const std::shared_ptr<const TensorSource> whole(&source, [](const TensorSource*) {});
  SplitExperts split =
      split_experts(whole, {{"model_type", spec.model_type}, {"hidden_size", spec.hidden}});
  return split.fused.empty() ? nullptr : std::move(split.source);
}

bool is_routed(const LinearLayer& linear) { return linear.expert >= 0; }

// Whether all values are bfloat16 already, as those of a pruned weight are. Such a weight is
// multiplied by as if it were stored.
bool fit_bf16(std::span<const float> values) {
  return std::ranges::all_of(values,
                             [](float v) { return (std::bit_cast<uint32_t>(v) & 0xffffu) == 0; });
}

}  // namespace

struct Transformer::Ends {
  std::shared_ptr<const std::byte> embedding;     // [vocab, hidden] as stored
  Norm norm;                                      // [hidden]
  std::vector<float> head_bias;                   // [vocab], or empty
  std::unique_ptr<PackedWeight> head, kept_head;  // [vocab, hidden] for many and for few rows
};

// The linear weights of one block as they are stored, by the name of the linear layer. All lie in
// one piece of memory that the next block's take over: fresh pages cost as much as reading.
struct Transformer::Ahead {
  using Weights = std::map<std::string, std::span<const std::byte>, std::less<>>;
  int64_t layer = -1;
  PageBuffer room;
  Weights weights;
  std::future<Weights> reading;  // waited for before what it reads into goes
};

Transformer::Transformer(const TensorSource& source, ModelSpec spec, Backend& backend,
                         Threads& threads)
    : shown_(show_experts(source, spec)),
      source_(shown_ ? *shown_ : source),
      spec_(locate_tensors(std::move(spec), source_)),
      backend_(backend),
      threads_(threads),
      ends_(std::make_unique<Ends>()),
      workspace_(std::make_unique<Workspace>()),
      ahead_(std::make_unique<Ahead>()) {
  tied_head_ = !holds_own_head(
      source_, {source_.find(embedding_name(spec_)), source_.find(head_name(spec_))},
      spec_.tied_head);
  check_tensors();
  for (int64_t layer = 0; spec_.xielu && layer < spec_.layers; ++layer)
    xielu_.push_back(std::make_unique<Xielu>(load_xielu(source_, xielu_place(spec_, layer))));
}

const Xielu& Transformer::xielu_of(int64_t layer) const {
  return *xielu_.at(static_cast<size_t>(layer));
}

Transformer::~Transformer() = default;

void Transformer::check_tensors() const {
  std::set<std::string, std::less<>> known;
  const auto expect = [&](const std::string& name, const Shape& shape) {
    const TensorInfo& tensor = source_.get(name);
    if (tensor.shape != shape) {
      throw input_error("{}: tensor {} has shape {}, config.json says {}", source_.label(), name,
                        to_string(tensor.shape), to_string(shape));
    }
    if (!is_arithmetic(tensor.dtype)) {
      throw input_error("{}: tensor {} is {}, expected F32, F16 or BF16", source_.label(), name,
                        dtype_name(tensor.dtype));
    }
    known.insert(name);
  };
  const auto expect_norm = [&](const BlockNorm& norm) {
    expect(norm.name + ".weight", {norm.width});
    if (norm.spec.bias) expect(norm.name + ".bias", {norm.width});
  };
  expect(embedding_name(spec_), {spec_.vocab, spec_.hidden});
  expect_norm(final_norm());
  if (!tied_head_) expect(head_name(spec_), {spec_.vocab, spec_.hidden});
  known.insert(head_name(spec_));
  if (spec_.head_bias) expect(spec_.head + "bias", {spec_.vocab});
  for (int64_t layer = 0; layer < spec_.layers; ++layer) {
    const BlockSteps block = block_steps(spec_, layer);
    for (const BlockNorm& norm : block.norms) expect_norm(norm);
    for (const OwnTensor& tensor : block.own) expect(tensor.name, tensor.shape);
    for (const char* name : {"alpha_p", "alpha_n", "beta", "eps"}) {
      if (spec_.xielu) known.insert(xielu_place(spec_, layer) + name);
    }
    for (const LinearLayer& linear : block.linears) {
      if (linear.first_row != 0) continue;  // the tensor has been met
      expect(linear.tensor, linear.shape);
      if (!linear.bias.empty()) expect(linear.bias, {linear.shape[0]});
    }
  }
  if (spec_.per_layer_width) check_per_layer_tensors(known);
  check_no_others(known);
}

void Transformer::check_no_others(const std::set<std::string, std::less<>>& known) const {
  for (const TensorInfo& tensor : source_.tensors()) {
    const std::string_view name = tensor.name;
    const bool ours = name.starts_with(spec_.prefix) || name.starts_with(spec_.head);
    if (ours && !known.contains(name) && !is_buffer(tensor) && !is_extra_of(spec_, name) &&
        !is_unread_key(spec_, name)) {
      throw input_error(
          "{}: tensor {} has no place in a {} of {} layers as config.json describes it",
          source_.label(), name, spec_.model_type, spec_.layers);
    }
  }
}

void Transformer::require_finite(bool finite, const TensorInfo& tensor) const {
  if (finite) return;
  throw input_error("{}: tensor {} holds a value that is not finite (NaN or infinity)",
                    source_.label(), tensor.name);
}

void Transformer::check_finite(const TensorInfo& tensor, std::span<const std::byte> bytes) const {
  require_finite(stored_finite(tensor.dtype, bytes, threads_), tensor);
}

// The tensor as one matrix from row `first_row` on, as many values as fit `bytes`.
void Transformer::read_rows(const TensorInfo& tensor, int64_t first_row,
                            std::span<std::byte> bytes) const {
  source_.read(tensor, first_row * tensor.shape.back(), bytes);
}

// The same, proven to be finite.
void Transformer::read_stored(const TensorInfo& tensor, int64_t first_row,
                              std::span<std::byte> bytes) const {
  read_rows(tensor, first_row, bytes);
  check_finite(tensor, bytes);
}

// The whole tensor, as stored.
std::shared_ptr<const std::byte> Transformer::read_stored(const TensorInfo& tensor) const {
  const auto pages = std::make_shared<PageBuffer>();
  const std::span<std::byte> bytes = pages->get(byte_size(tensor));
  read_stored(tensor, 0, bytes);
  return {pages, bytes.data()};
}

void Transformer::load_embedding() const {
  if (ends_->embedding) return;
  ends_->embedding = read_stored(source_.get(embedding_name(spec_)));
}

void Transformer::check_ids(std::span<const int32_t> ids, std::span<float> hidden) const {
  if (hidden.size() != ids.size() * static_cast<size_t>(spec_.hidden))
    throw failed_error("embed: {} values for {} ids", hidden.size(), ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= spec_.vocab) {
      throw input_error("{}: token id {} (token {} of the input) is outside the vocabulary of {}",
                        source_.label(), ids[i], i, spec_.vocab);
    }
  }
}

void Transformer::embed(std::span<const int32_t> ids, std::span<float> hidden) const {
  check_ids(ids, hidden);
  load_embedding();
  const DType dtype = source_.get(embedding_name(spec_)).dtype;
  const auto width = static_cast<size_t>(spec_.hidden);
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::byte* row =
        ends_->embedding.get() + static_cast<size_t>(ids[i]) * width * dtype_size(dtype);
    widen(dtype, row, hidden.subspan(i * width, width));
  }
  if (spec_.embedding_multiplier != 1) {
    backend_.scale(hidden.data(), spec_.embedding_multiplier, static_cast<int64_t>(hidden.size()));
  }
}

void Transformer::embed_once(std::span<const int32_t> ids, std::span<float> hidden) const {
  if (ends_->embedding) return embed(ids, hidden);
  check_ids(ids, hidden);
  const TensorInfo& tensor = source_.get(embedding_name(spec_));
  const auto width = static_cast<size_t>(spec_.hidden);
  const size_t row_bytes = width * dtype_size(tensor.dtype);
  std::vector<size_t> order(ids.size());  // the tokens by id
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, [&](size_t i) { return ids[i]; });
  // The tokens [begin, end) of `order` whose rows lie in one piece of the matrix.
  constexpr size_t kPieceBytes = size_t{4} << 20;
  const auto piece_rows = static_cast<int64_t>(std::max<size_t>(1, kPieceBytes / row_bytes));
  std::vector<std::pair<size_t, size_t>> pieces;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || ids[order[i]] / piece_rows != ids[order[i - 1]] / piece_rows)
      pieces.emplace_back(i, i);
    ++pieces.back().second;
  }
  threads_.run(pieces.size(), [&](size_t p) {
    const auto [begin, end] = pieces[p];
    const int64_t first = ids[order[begin]] / piece_rows * piece_rows;
    const int64_t last = std::min(first + piece_rows, spec_.vocab);
    PageBuffer room;
    const auto rows = room.get(static_cast<size_t>(last - first) * row_bytes);
    read_rows(tensor, first, rows);
    require_finite(stored_finite(tensor.dtype, rows), tensor);
    for (size_t i = begin; i < end; ++i) {
      widen(tensor.dtype, rows.data() + static_cast<size_t>(ids[order[i]] - first) * row_bytes,
            hidden.subspan(order[i] * width, width));
    }
  });
  if (spec_.embedding_multiplier != 1) {
    backend_.scale(hidden.data(), spec_.embedding_multiplier, static_cast<int64_t>(hidden.size()));
  }
}

BlockNorm Transformer::final_norm() const {
  return {fmt::format("{}{}", spec_.prefix, spec_.final_norm), spec_.norm, spec_.hidden};
}

// The values of a small tensor, proven to be finite.
std::vector<float> Transformer::read_finite(const std::string& name) const {
  const TensorInfo& tensor = source_.get(name);
  std::vector<float> values = source_.read_floats(tensor);
  require_finite(std::ranges::all_of(values, [](float v) { return std::isfinite(v); }), tensor);
  return values;
}

Norm Transformer::load_norm(const BlockNorm& norm) const {
  Norm loaded{norm.spec, {}, {}};
  loaded.weight = read_finite(norm.name + ".weight");
  if (norm.spec.bias) loaded.bias = read_finite(norm.name + ".bias");
  if (norm.spec.plus_one) {
    for (float& w : loaded.weight) w += 1;
  }
  return loaded;
}

std::vector<float> Transformer::load_own(const OwnTensor& tensor) const {
  std::vector<float> values = read_finite(tensor.name);
  if (tensor.plus_one) {
    for (float& v : values) v += 1;
  }
  return values;
}

size_t Transformer::stored_bytes(const LinearLayer& linear) const {
  return static_cast<size_t>(linear.out * linear.in) * dtype_size(source_.get(linear.tensor).dtype);
}

// Places for all weights of a block, one after the other in `room`, each on a cache line of its
// own.
std::vector<std::span<std::byte>> Transformer::lay_out(std::span<const LinearLayer> linears,
                                                       PageBuffer& room) const {
  constexpr size_t kLine = 64;
  std::vector<size_t> begins = {0};
  for (const LinearLayer& linear : linears)
    begins.push_back((begins.back() + stored_bytes(linear) + kLine - 1) / kLine * kLine);
  const std::span<std::byte> memory = room.get(begins.back());
  std::vector<std::span<std::byte>> places;
  for (size_t i = 0; i < linears.size(); ++i)
    places.push_back(memory.subspan(begins[i], stored_bytes(linears[i])));
  return places;
}

void Transformer::read_ahead(int64_t layer) const {
  ahead_->reading = {};  // nobody asked for what it reads
  ahead_->weights.clear();
  ahead_->layer = layer;
  if (layer >= spec_.layers) {
    ahead_->room = PageBuffer();
    return;
  }
  ahead_->reading = std::async(std::launch::async, [this, layer] {
    std::vector<LinearLayer> linears = linear_layers(spec_, layer);
    std::erase_if(linears, is_routed);
    const auto places = lay_out(linears, ahead_->room);
    Ahead::Weights weights;
    for (size_t i = 0; i < linears.size(); ++i) {
      read_rows(source_.get(linears[i].tensor), linears[i].first_row, places[i]);
      weights[linears[i].name] = places[i];
    }
    return weights;
  });
}

// The weight of a linear layer of this block as it is stored, not looked at: in `room`, or where it
// was read ahead.
std::span<const std::byte> Transformer::stored_weight(const LinearLayer& linear, int64_t layer,
                                                      PageBuffer& room) const {
  if (ahead_->layer == layer) {
    if (ahead_->reading.valid()) ahead_->weights = ahead_->reading.get();
    const auto found = ahead_->weights.find(linear.name);
    if (found != ahead_->weights.end()) return found->second;
  }
  const std::span<std::byte> bytes = room.get(stored_bytes(linear));
  read_rows(source_.get(linear.tensor), linear.first_row, bytes);
  return bytes;
}

// The weight as stored, or as `edit` changed it.
std::unique_ptr<PackedWeight> Transformer::pack_linear(const LinearLayer& linear, int64_t layer,
                                                       const WeightEdit& edit) const {
  PageBuffer room;
  return pack_stored(linear, stored_weight(linear, layer, room), edit);
}

std::unique_ptr<PackedWeight> Transformer::pack_stored(const LinearLayer& linear,
                                                       std::span<const std::byte> bytes,
                                                       const WeightEdit& edit) const {
  const TensorInfo& tensor = source_.get(linear.tensor);
  check_finite(tensor, bytes);
  if (!edit) return backend_.pack(tensor.dtype, bytes.data(), linear.out, linear.in);
  std::vector<float> values(static_cast<size_t>(linear.out * linear.in));
  widen(tensor.dtype, bytes.data(), values);
  edit(linear.name, values, linear.out, linear.in);
  const std::span<std::byte> edited = std::as_writable_bytes(std::span(values));
  if (tensor.dtype != DType::kBF16 || !fit_bf16(values))
    return backend_.pack(DType::kF32, edited.data(), linear.out, linear.in);
  narrow(values, DType::kBF16, edited.data());  // in place: none is written before it is read
  return backend_.pack(DType::kBF16, edited.data(), linear.out, linear.in);
}

Linear Transformer::make_linear(const LinearLayer& linear,
                                std::unique_ptr<PackedWeight> weight) const {
  Linear made{std::move(weight), {}};
  if (linear.bias.empty()) return made;
  const std::vector<float> bias = source_.read_floats(source_.get(linear.bias));
  made.bias.assign(bias.begin() + linear.first_row, bias.begin() + linear.first_row + linear.out);
  return made;
}

std::shared_ptr<BlockWeights> Transformer::new_block(int64_t layer) const {
  if (layer < 0 || layer >= spec_.layers) throw failed_error("load_block: no layer {}", layer);
  auto block = std::make_shared<BlockWeights>();
  block->steps = block_steps(spec_, layer);
  for (const BlockNorm& norm : block->steps.norms) block->norms.push_back(load_norm(norm));
  for (const OwnTensor& tensor : block->steps.own) block->own.push_back(load_own(tensor));
  if (const int64_t width = spec_.per_layer_width) {
    const TensorInfo& all = source_.get(spec_.prefix + "per_layer_model_projection.weight");
    std::vector<std::byte> rows(static_cast<size_t>(width * spec_.hidden) * dtype_size(all.dtype));
    read_stored(all, layer * width, rows);
    block->per_layer = backend_.pack(all.dtype, rows.data(), width, spec_.hidden);
  }
  return block;
}

std::shared_ptr<const BlockWeights> Transformer::load_without_linears(int64_t layer) const {
  return new_block(layer);
}

std::shared_ptr<const BlockWeights> Transformer::load_block(int64_t layer, const WeightEdit& edit,
                                                            ReadExperts experts) const {
  const auto block = new_block(layer);
  for (const LinearLayer& linear : block->steps.linears) {
    const bool later = experts == ReadExperts::kWhenUsed && is_routed(linear);
    block->linears.push_back(later ? Linear()
                                   : make_linear(linear, pack_linear(linear, layer, edit)));
  }
  block->edit = edit;
  return block;
}

// A weight as it is stored, which lies in `pages`.
Linear Transformer::keep_stored(const LinearLayer& linear, std::shared_ptr<PageBuffer> pages,
                                std::span<const std::byte> bytes) const {
  const TensorInfo& tensor = source_.get(linear.tensor);
  check_finite(tensor, bytes);
  return make_linear(
      linear, backend_.keep(tensor.dtype, {std::move(pages), bytes.data()}, linear.out, linear.in));
}

// All weights lie in one piece of memory, so that it can be of huge pages: reading small ones is a
// third slower.
std::shared_ptr<const BlockWeights> Transformer::load_stored_block(int64_t layer,
                                                                   int64_t experts) const {
  const auto block = new_block(layer);
  block->stored = true;
  const std::vector<LinearLayer>& linears = block->steps.linears;
  const auto stays = [&](const LinearLayer& linear) { return linear.expert < experts; };
  std::vector<LinearLayer> kept;
  std::ranges::copy_if(linears, std::back_inserter(kept), stays);
  const auto pages = std::make_shared<PageBuffer>();
  const auto places = lay_out(kept, *pages);
  size_t next = 0;
  for (const LinearLayer& linear : linears) {
    block->linears.emplace_back();
    if (!stays(linear)) continue;
    read_rows(source_.get(linear.tensor), linear.first_row, places[next]);
    block->linears.back() = keep_stored(linear, pages, places[next++]);
  }
  return block;
}

// Reads into `pages` what the block lacks of an expert.
StoredExpert Transformer::read_expert(const BlockWeights& block, const ExpertLinears& mlp,
                                      std::shared_ptr<PageBuffer> pages) const {
  StoredExpert stored{std::move(pages), {}};
  std::vector<int> indices;
  std::vector<LinearLayer> linears;
  for (const int index : {mlp.gate, mlp.up, mlp.down}) {
    if (index == kNoIndex || block.linear(index).weight) continue;
    indices.push_back(index);
    linears.push_back(block.steps.linear(index));
  }
  if (indices.empty()) return stored;
  const auto places = lay_out(linears, *stored.pages);
  for (size_t i = 0; i < indices.size(); ++i) {
    read_rows(source_.get(linears[i].tensor), linears[i].first_row, places[i]);
    stored.weights[indices[i]] = places[i];
  }
  return stored;
}

std::optional<LinearLayer> Transformer::untied_head() const {
  if (tied_head_) return std::nullopt;
  LinearLayer head;
  head.tensor = head_name(spec_);
  head.name = head.module = head.tensor.substr(0, head.tensor.rfind('.'));
  head.shape = {spec_.vocab, spec_.hidden};
  head.out = spec_.vocab;
  if (spec_.head_bias) head.bias = spec_.head + "bias";
  head.in = spec_.hidden;
  return head;
}

void Transformer::head_input(std::span<const float> hidden, float* x) const {
  if (ends_->norm.weight.empty()) ends_->norm = load_norm(final_norm());
  run_norm(ends_->norm, spec_.hidden, hidden.data(), rows_of(hidden), x);
}

const PackedWeight& Transformer::load_head(HeadFor use) const {
  auto& head = use == HeadFor::kFewRows ? ends_->kept_head : ends_->head;
  if (head) return *head;
  if (tied_head_ && use == HeadFor::kFewRows) load_embedding();  // both keep the same bytes
  const TensorInfo& tensor = source_.get(tied_head_ ? embedding_name(spec_) : head_name(spec_));
  const auto bytes = tied_head_ && ends_->embedding ? ends_->embedding : read_stored(tensor);
  head = use == HeadFor::kFewRows
             ? backend_.keep(tensor.dtype, bytes, spec_.vocab, spec_.hidden)
             : backend_.pack(tensor.dtype, bytes.get(), spec_.vocab, spec_.hidden);
  ends_->norm = load_norm(final_norm());
  if (spec_.head_bias) ends_->head_bias = source_.read_floats(source_.get(spec_.head + "bias"));
  return *head;
}

void Transformer::head(std::span<const float> hidden, std::span<const int64_t> rows,
                       std::span<float> logits, HeadFor use) const {
  if (logits.size() != rows.size() * static_cast<size_t>(spec_.vocab)) {
    throw failed_error("head: {} logits for {} rows", logits.size(), rows.size());
  }
  const PackedWeight& weight = load_head(use);
  const auto count = static_cast<int64_t>(rows.size());
  float* chosen = workspace_->last.get(count * spec_.hidden);  // [rows.size(), hidden]
  for (int64_t i = 0; i < count; ++i) {
    const auto row =
        hidden.subspan(static_cast<size_t>(rows[static_cast<size_t>(i)] * spec_.hidden),
                       static_cast<size_t>(spec_.hidden));
    std::copy(row.begin(), row.end(), chosen + i * spec_.hidden);
  }
  run_norm(ends_->norm, spec_.hidden, chosen, count, chosen);
  backend_.linear(weight, ends_->head_bias, chosen, count, logits.data());
  const int64_t values = count * spec_.vocab;
  if (spec_.logit_multiplier != 1) backend_.scale(logits.data(), spec_.logit_multiplier, values);
  if (spec_.logit_softcap != 0) backend_.softcap(logits.data(), spec_.logit_softcap, values);
}

uint64_t Transformer::stored_block_bytes() const {
  uint64_t most = 0;
  for (int64_t layer = 0; layer < spec_.layers; ++layer) {
    uint64_t bytes = 0;
    for (const LinearLayer& linear : linear_layers(spec_, layer)) {
      if (!is_routed(linear)) bytes += stored_bytes(linear);
    }
    most = std::max(most, bytes);
  }
  return most;
}

uint64_t Transformer::stored_ends_bytes() const {
  const uint64_t embedding = byte_size(source_.get(embedding_name(spec_)));
  return embedding + (tied_head_ ? 0 : byte_size(source_.get(head_name(spec_))));
}

uint64_t Transformer::block_reading_bytes() const {
  uint64_t most = 0;
  for (int64_t layer = 0; layer < spec_.layers; ++layer) {
    for (const LinearLayer& linear : linear_layers(spec_, layer))
      most = std::max(most, source_.read_cost(source_.get(linear.tensor)).memory);
  }
  return most;
}

uint64_t Transformer::embedding_reading_bytes() const {
  return source_.read_cost(source_.get(embedding_name(spec_))).memory;
}

uint64_t Transformer::packed_block_bytes(ReadExperts experts) const {
  const uint64_t size = compute_type() == ComputeType::kF32 ? 4 : 2;
  uint64_t most = 0;
  for (int64_t layer = 0; layer < spec_.layers; ++layer) {
    uint64_t packed = 0, largest = 0;
    for (const LinearLayer& linear : linear_layers(spec_, layer)) {
      // All routed experts have the shape of the first. Two are there as they are stored.
      if (experts == ReadExperts::kWhenUsed && linear.expert > 0) continue;
      if (experts == ReadExperts::kWhenUsed && is_routed(linear))
        packed += 2 * stored_bytes(linear);
      packed += size * static_cast<uint64_t>(linear.out * linear.in);
      largest = std::max<uint64_t>(largest, stored_bytes(linear));
    }
    most = std::max(most, packed + largest);
  }
  return most;
}

uint64_t Transformer::activation_bytes(int64_t rows) const {
  std::vector<int64_t> slots;
  int64_t gated = 0, widest_input = 0, mixer = 0;
  for (int64_t layer = 0; layer < spec_.layers; ++layer) {
    const BlockSteps block = block_steps(spec_, layer);
    slots.resize(std::max(slots.size(), block.slots.size()));
    for (size_t i = 0; i < block.slots.size(); ++i) slots[i] = std::max(slots[i], block.slots[i]);
    for (const LinearLayer& linear : block.linears) {
      widest_input = std::max(widest_input, linear.in);
      if (linear.role == LinearRole::kUp) gated = std::max(gated, linear.out);
    }
    mixer = std::max(mixer, spec_.layer[static_cast<size_t>(layer)].mixer->working_values(
                                spec_, compute_type()));
  }
  const int64_t pieces =
      compute_type() == ComputeType::kF32 ? 3 : 1;  // of an input, two bytes each
  const int64_t values = std::accumulate(slots.begin(), slots.end(), int64_t{0}) + gated + mixer +
                         widest_input * pieces / 2;
  return static_cast<uint64_t>(rows) * static_cast<uint64_t>(values) * sizeof(float);
}

}  // namespace lewis
