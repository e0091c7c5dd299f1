// The way of the three streams through one block: their hidden states, and the steps that no linear
// layer is solved in.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "model/transformer.h"
#include "refine/block.h"
#include "refine/lent_keys.h"
#include "refine/streams.h"

namespace lewis {

constexpr int64_t kRowsPerGroup = 2048;  // rows that go through a model together

// The rows of one stream that go through one model.
struct StreamPart {
  StreamIndex stream;
  const Transformer* model;
  const BlockWeights* block;  // without linear layers; null for the head
  const Segment* segment;
  int64_t first_row;  // in the stream
};

class BlockStreams {
 public:
  // Layer spec.layers is the head. The arguments must live as long as this.
  BlockStreams(const RefineModels& models, const TextRows& text, int64_t layer,
               const StreamPair& in, StreamPair& out);

  std::span<const StreamPart> parts() const { return parts_; }
  // A value of all streams, of arbitrary content.
  Streams make(int64_t columns) const;

  // y = the norm of the hidden states or, where the step has no norm, those themselves.
  void norm_hidden(const NormStep& step, Streams& y);
  // y = the norm of x; both may be the same.
  void norm(const NormStep& step, const Streams& x, Streams& y) const;
  // What the mixers of all models make of `in`, some whole sequences at a time. An input is used
  // up, and its memory holds the first output of the same width.
  std::vector<Streams> mix(const MixStep& step, std::span<Streams> in,
                           std::span<const int64_t> widths);
  // Adds a value times `multiplier` to the hidden states, which from then on are those after the
  // block. x is used up.
  void add(Streams& x, float multiplier);
  // Gates by the layer's own embeddings of the tokens; the hidden states times a stored number.
  void apply_per_layer_input(Streams& gate) const;
  void scale(const ScaleStep& step);
  // The merged stream after the block as the prior's weights make it, with what the block lends.
  void take_prior();
  // Keeps what the block lends as it was computed: to the experts' stream and the merged one.
  void keep_lent();

  // f(first row of the part, hidden states [rows, hidden]) over pieces of a part, as they are now.
  template <typename F>
  void for_hidden(const StreamPart& part, const F& f) {
    for (int64_t first = 0; first < part.segment->rows; first += kRowsPerGroup) {
      const int64_t rows = std::min(kRowsPerGroup, part.segment->rows - first);
      hidden_.resize(static_cast<size_t>(rows * width_));
      read_hidden(part, first, hidden_);
      f(first, std::span(hidden_));
    }
  }

 private:
  void read_hidden(const StreamPart& part, int64_t row, std::span<float> values) const;
  void write_hidden(const StreamPart& part, int64_t row, std::span<const float> values);
  // Whole sequences that go through a mixer together; first_row: in the stream.
  struct MixGroup {
    const StreamPart* part;
    std::vector<SequenceRows> sequences;  // their first_row counts from the group's
    int64_t first_row, rows;
  };
  std::vector<MixGroup> mix_groups() const;
  void mix_group(const MixGroup& group, const MixStep& step, std::span<Streams> in,
                 std::span<Streams* const> out);
  // Gives a sequence a side, with what earlier layers lend to this one in a stream; `row`: of the
  // text.
  void prepare_side(SequenceRows& sequence, const Transformer& model, const HiddenStates& states,
                    int64_t row) const;
  bool lends(const MixStep& step) const;
  void keep_lent_of_prior(std::span<const SequenceRows> sequences, int64_t row);

  const RefineModels& models_;
  const TextRows& text_;
  int64_t layer_, width_;                     // of the hidden states
  std::optional<LentColumns> lends_, reads_;  // keys and values of this block and of earlier ones
  const StreamPair& in_;
  StreamPair& out_;
  bool moved_ = false;  // whether something was added to the hidden states
  std::vector<std::shared_ptr<const BlockWeights>> blocks_;  // the prior's, then the experts'
  std::vector<StreamPart> parts_;
  std::vector<float> hidden_;  // of for_hidden
  Matrix prior_hidden_;        // [held out, hidden] of the stream kPrior, once something was added
  Streams lent_;               // what the block lends, once its mixer has run
};

}  // namespace lewis
