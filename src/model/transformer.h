// Running a model: embedding, blocks as block_steps.h describes them, head. The caller owns the
// loop over layers, so that it decides whether one block is in memory at a time (calibration, loss)
// or all of them (generation).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/progress.h"
#include "base/threads.h"
#include "compute/backend.h"
#include "io/tensor_source.h"
#include "model/block_steps.h"
#include "model/model_spec.h"

namespace lewis {

// A row-major matrix of floats that somebody else owns.
struct ConstMatrix {
  const float* data = nullptr;
  int64_t rows = 0, columns = 0;
  std::span<const float> row(int64_t r) const {
    return {data + r * columns, static_cast<size_t>(columns)};
  }
};

class MixerState;
class PageBuffer;
class SequenceState;  // what the layers keep of one sequence that grows: model/sequence_state.h
struct SequenceSide;

// Consecutive rows of the hidden states that belong to one sequence.
struct SequenceRows {
  int64_t first_row = 0, rows = 0;
  int64_t first_position = 0;      // of the first row in its sequence (0 without a state)
  SequenceState* state = nullptr;  // null: the rows are the whole sequence
  // Its tokens, where layers have embeddings of their own; and what layers lend to others where
  // there is no state.
  const int32_t* ids = nullptr;
  std::shared_ptr<SequenceSide> side = nullptr;
};

// The input of some linear layers of a block: those whose `input` is `value` and which belong to
// the routed expert `expert` or, where it is kDense, to none.
struct Tapped {
  Value value = kStream;
  ConstMatrix x;  // for all rows of the call, or for those of `rows`
  int64_t expert = kDense;
  std::span<const int64_t>
      rows;  // of a routed expert: the rows of the call that it sees, ascending
};
// Called on the thread that runs the block, once per input and call (of routed experts once per
// expert that is chosen). The input of a router is tapped where other linear layers share it.
using TapFn = std::function<void(const Tapped& tapped)>;

// Called with each linear weight of a block before it is packed (of a fused one with each part):
// [out, in] row-major, may be changed in place (the reference protocol prunes). name: that of
// linear_names.
using WeightEdit =
    std::function<void(std::string_view name, std::span<float> weight, int64_t out, int64_t in)>;

// When the weights of routed experts are read: with their block, or one expert at a time, whenever
// rows are sent to it. An expert that no row is sent to is then never read.
enum class ReadExperts { kWhenUsed, kWithBlock };

// How the head is kept: packed for many rows (loss), or as stored for few at a time (generation).
enum class HeadFor { kManyRows, kFewRows };

// Which rows a routed expert sees, ascending, and what its output for each is multiplied by.
struct RoutedRows {
  std::vector<int64_t> rows;
  std::vector<float> weights;
  std::vector<float> in_weights;  // what multiplies its input; empty: 1
};

struct Xielu;
struct BlockWeights;  // one block, ready for the backend
struct Linear;
struct MlpWeights;
struct StoredExpert;
struct Norm;

// Calls are made by one thread at a time.
class Transformer {
 public:
  // Looks where the tensors are (locate_tensors), checks that every one that the spec asks for is
  // there with its shape and an arithmetic type, and that the text model has no tensor that the
  // spec does not know: what is ignored would be computed wrongly. (Error(kInput) names it.) The
  // head is tied when there is no lm_head.weight, or when the spec ties it and the stored one has
  // the values of the embeddings (io/tied_head.h).
  Transformer(const TensorSource& source, ModelSpec spec, Backend& backend, Threads& threads);
  ~Transformer();

  const ModelSpec& spec() const { return spec_; }
  const TensorSource& source() const { return source_; }
  Backend& backend() const { return backend_; }
  Threads& threads() const { return threads_; }
  ComputeType compute_type() const { return backend_.compute_type(); }

  // hidden: [ids.size(), spec.hidden]. An id outside the vocabulary is an Error(kInput). The table
  // stays in memory for the next call.
  void embed(std::span<const int32_t> ids, std::span<float> hidden) const;
  // Embeds likewise, but reads the table piece by piece and keeps nothing.
  void embed_once(std::span<const int32_t> ids, std::span<float> hidden) const;
  // Reads and packs one block, tensor by tensor. Values that are not finite are an Error(kInput),
  // which run_block throws for experts that are read when they are used. Then `edit` is called
  // each time an expert is read.
  std::shared_ptr<const BlockWeights> load_block(
      int64_t layer, const WeightEdit& edit = {},
      ReadExperts experts = ReadExperts::kWhenUsed) const;
  // Begins to read a block's linear weights but those of routed experts, as they are stored, on
  // another thread; load_block of that layer takes them over. Layers that do not exist are nothing
  // to read.
  void read_ahead(int64_t layer) const;
  // Reads one block for generation: the weights stay in memory as they are stored (Backend::keep).
  // Of its routed experts only the first `experts` stay. The others are read in the same way
  // whenever rows are sent to them.
  std::shared_ptr<const BlockWeights> load_stored_block(int64_t layer,
                                                        int64_t experts = INT64_MAX) const;
  // hidden: [rows, spec.hidden], changed in place; the sequences lie in it one after the other. A
  // sequence's result does not depend on the others. More positions than the model has are an
  // Error(kInput).
  void run_block(const BlockWeights& block, std::span<const SequenceRows> sequences,
                 std::span<float> hidden, const TapFn& tap = {}) const;
  // A block without its linear weights: enough for the steps below down to activate().
  std::shared_ptr<const BlockWeights> load_without_linears(int64_t layer) const;

  // Single steps of a block, for those who compute its linear layers elsewhere (refine/).
  // y [rows, width] = the norm of x, or x itself where the step has no norm; y may be x.
  void norm(const BlockWeights& block, const NormStep& step, const float* x, int64_t rows,
            float* y) const;
  // Runs the mixer: in and out are [rows, width] each, in the order of the step. `in` is used up.
  void mix(const BlockWeights& block, const MixStep& step, std::span<const SequenceRows> sequences,
           int64_t rows, std::span<float* const> in, std::span<float* const> out) const;
  // gate = activation(gate) * up, n values; without up (null): gate = activation(gate). The layer
  // counts where an activation has parameters.
  void activate(int64_t layer, float* gate, const float* up, int64_t n) const;
  // gate [rows, spec.per_layer_width] = activation(gate) * what the layer's own embedding gives the
  // tokens of the sequences.
  void apply_per_layer_input(const BlockWeights& block, std::span<const SequenceRows> sequences,
                             int64_t rows, float* gate) const;
  // hidden [n] *= the stored number.
  void scale_stream(const BlockWeights& block, const ScaleStep& step, float* hidden,
                    int64_t n) const;
  // hidden += multiplier * x, both [rows, hidden]; x is used up.
  void add_to_stream(float* x, float multiplier, int64_t rows, float* hidden) const;
  // Routed experts, by a block that load_block made: y = what all of them make of routed_x, [rows,
  // width of the step's routed_in] both, where the router sees x [rows, hidden]; what the router
  // chooses for the rows of x, expert by expert; and the output of one expert alone, not weighted.
  void experts_output(const BlockWeights& block, const ExpertsStep& step, int64_t rows,
                      const float* x, const float* routed_x, float* y, const TapFn& tap = {}) const;
  std::vector<RoutedRows> route(const BlockWeights& block, const ExpertsStep& step, int64_t rows,
                                const float* x) const;
  // The two halves of route(): the router's scores [rows, experts] of x, and what is chosen by
  // scores, which are used up.
  void router_scores(const BlockWeights& block, const ExpertsStep& step, int64_t rows,
                     const float* x, float* scores) const;
  std::vector<RoutedRows> choose_experts(const BlockWeights& block, const ExpertsStep& step,
                                         int64_t rows, float* scores) const;
  void expert_output(const BlockWeights& block, const ExpertsStep& step, int64_t expert,
                     int64_t rows, const float* x, float* y) const;

  // The head as a linear layer of head_input(hidden); none where it is the embedding itself.
  std::optional<LinearLayer> untied_head() const;
  void head_input(std::span<const float> hidden, float* x) const;
  // logits of some rows: [rows.size(), spec.vocab] = head(final norm(hidden[rows])).
  void head(std::span<const float> hidden, std::span<const int64_t> rows, std::span<float> logits,
            HeadFor use = HeadFor::kManyRows) const;

  // Bytes of a linear layer's weight as it is stored.
  size_t stored_bytes(const LinearLayer& linear) const;
  // Bytes of the embedding, and of the head where it is not tied, as they are stored.
  uint64_t stored_ends_bytes() const;
  // Bytes of the linear layers of the largest block as read_ahead keeps them, and packed with the
  // largest weight still beside it: with all routed experts, or with one, while the next is read.
  uint64_t stored_block_bytes() const;
  uint64_t packed_block_bytes(ReadExperts experts = ReadExperts::kWhenUsed) const;
  // Bytes that reading takes besides what is read (TensorSource::read_cost), for a model that is
  // merged while it is read: at most, for a linear layer of a block, and for the embedding.
  uint64_t block_reading_bytes() const;
  uint64_t embedding_reading_bytes() const;
  // Bytes that run_block works in, at most, when it gets that many rows: the values of a block that
  // exist at the same time (BlockSteps::slots), and what backend and mixer round, gate or split.
  uint64_t activation_bytes(int64_t rows) const;

 private:
  struct Ends;       // embedding, final norm, head: read when they are first needed
  struct Workspace;  // for run_block, reused from call to call
  class ForwardPass;
  struct Ahead;  // what read_ahead reads
  void check_tensors() const;
  MixerState* state_of(const SequenceRows& s, int64_t layer) const;
  void check_per_layer_tensors(std::set<std::string, std::less<>>& known) const;
  std::vector<float> per_layer_rows(const BlockWeights& block, std::span<const int32_t> ids) const;
  void check_no_others(const std::set<std::string, std::less<>>& known) const;
  void check_ids(std::span<const int32_t> ids, std::span<float> hidden) const;
  std::vector<std::span<std::byte>> lay_out(std::span<const LinearLayer> linears,
                                            PageBuffer& room) const;
  std::span<const std::byte> stored_weight(const LinearLayer& linear, int64_t layer,
                                           PageBuffer& room) const;
  void read_rows(const TensorInfo& tensor, int64_t first_row, std::span<std::byte> bytes) const;
  void read_stored(const TensorInfo& tensor, int64_t first_row, std::span<std::byte> bytes) const;
  std::shared_ptr<const std::byte> read_stored(const TensorInfo& tensor) const;
  void require_finite(bool finite, const TensorInfo& tensor) const;
  void check_finite(const TensorInfo& tensor, std::span<const std::byte> bytes) const;
  void load_embedding() const;
  const PackedWeight& load_head(HeadFor use) const;
  BlockNorm final_norm() const;
  std::vector<float> read_finite(const std::string& name) const;
  Norm load_norm(const BlockNorm& norm) const;
  std::vector<float> load_own(const OwnTensor& tensor) const;
  std::shared_ptr<BlockWeights> new_block(int64_t layer) const;
  std::unique_ptr<PackedWeight> pack_linear(const LinearLayer& linear, int64_t layer,
                                            const WeightEdit& edit) const;
  Linear make_linear(const LinearLayer& linear, std::unique_ptr<PackedWeight> weight) const;
  std::unique_ptr<PackedWeight> pack_stored(const LinearLayer& linear,
                                            std::span<const std::byte> bytes,
                                            const WeightEdit& edit) const;
  Linear keep_stored(const LinearLayer& linear, std::shared_ptr<PageBuffer> pages,
                     std::span<const std::byte> bytes) const;
  class ExpertReader;
  StoredExpert read_expert(const BlockWeights& block, const ExpertLinears& mlp,
                           std::shared_ptr<PageBuffer> pages) const;
  MlpWeights mlp_weights(const BlockWeights& block, const ExpertLinears& mlp,
                         const StoredExpert& stored) const;
  int64_t rows_of(std::span<const float> hidden) const {
    return static_cast<int64_t>(hidden.size()) / spec_.hidden;
  }
  void run_norm(const Norm& norm, int64_t columns, const float* x, int64_t rows, float* y) const;
  float* working_memory(const BlockWeights& block, Value value, int64_t rows) const;
  void run_mlp(int64_t layer, const MlpWeights& weights, const float* x, int64_t rows, float* inner,
               float* y, const std::function<void(ConstMatrix)>& tap_inner = {}) const;
  void run_gated(int64_t layer, const Linear* gate, const Linear& up, const float* x, int64_t rows,
                 float* inner) const;
  const Xielu& xielu_of(int64_t layer) const;
  void add_shared_expert(const BlockWeights& block, const ExpertsStep& step, int64_t rows,
                         const float* x, float* y, const TapFn& tap) const;

  std::shared_ptr<const TensorSource> shown_;  // source_, where experts are shown one by one
  const TensorSource& source_;
  ModelSpec spec_;
  Backend& backend_;
  Threads& threads_;
  bool tied_head_ = true;
  std::unique_ptr<Ends> ends_;
  std::unique_ptr<Workspace> workspace_;
  std::unique_ptr<Ahead> ahead_;
  std::vector<std::unique_ptr<Xielu>> xielu_;  // by layer
};

// The hidden states of many sequences, carried through the model block by block: every weight is
// read once. Sequences lie one after the other.
struct TokenBatch {
  std::vector<int32_t> ids;             // all tokens
  std::vector<SequenceRows> sequences;  // without states
};
TokenBatch make_batch(std::span<const std::vector<int32_t>> sequences);

// The rows that go through a block together where other models take `rows`. Every group reads the
// routed experts that its tokens are sent to, so a mixture has groups of up to four times as many,
// as long as their values take at most 1 GiB.
int64_t rows_of_groups(const Transformer& model, int64_t rows);

// When to read the experts of a block that so many groups go through: with their block where the
// model is merged while it is read, since every group would merge them anew.
ReadExperts experts_for(const Transformer& model, size_t groups);

// Runs the sequences through all blocks (layers outside, groups of whole sequences of at most
// `rows_per_group` rows inside, see rows_of_groups) and returns the hidden states before the final
// norm: [ids.size(), hidden]. Progress counts tokens * layers.
std::vector<float> run_layers(const Transformer& model, const TokenBatch& batch,
                              const ProgressFn& progress, int64_t rows_per_group = 2048);

// The groups that run_layers makes: ranges of sequences [first, last).
std::vector<std::pair<size_t, size_t>> group_sequences(const TokenBatch& batch,
                                                       int64_t rows_per_group);

// Continues several prompts at once, one token at a time, greedy or sampled.
struct GenerateOptions {
  int64_t max_new_tokens = 256;
  double temperature = 0;  // 0: greedy, of equal logits the lowest id
  double top_p = 1;        // of sampling: see sample_token
  // A token depends on the prompt, the seed, its place and the prompt's number alone.
  uint64_t seed = 0;
  std::vector<uint64_t> numbers;  // of the prompts; empty: 0, 1, 2, ...
  std::vector<int32_t> stop_ids;  // generation of a prompt ends when one is chosen
  // Asked after every token of prompt `i` with what was generated so far; true ends that prompt.
  std::function<bool(size_t i, std::span<const int32_t> generated)> stop;
  // Told of each prompt's new tokens as soon as it has ended, in any order; may throw.
  std::function<void(size_t i, std::span<const int32_t> generated)> finished;
  int64_t batch = 32;   // prompts that run together
  ProgressFn progress;  // prompts done
  // Bytes; 0: no limit. Weights that do not fit are read again whenever they are used
  // (KeptWeights), which changes no token; `note` is told how much that is and how long it takes.
  uint64_t max_memory = 0;
  std::function<void(const std::string&)> note{};
};
// Returns the new tokens of each prompt, without a stop id. Prompts do not influence each other, to
// the bit: one that ends leaves the batch and the next enters, the longest first, so that what
// enters a step together is of about one length. Generation also ends where the
// model's positions do. Error(kInput) for a prompt that is empty or leaves no position free;
// Error(kResource) where max_memory is too little even when no block stays in memory.
std::vector<std::vector<int32_t>> generate(const Transformer& model,
                                           std::span<const std::vector<int32_t>> prompts,
                                           const GenerateOptions& options);

}  // namespace lewis
