#include "refine/block_streams.h"

#include <algorithm>

#include "model/sequence_state.h"

namespace lewis {

BlockStreams::BlockStreams(const RefineModels& models, const TextRows& text, int64_t layer,
                           const StreamPair& in, StreamPair& out)
    : models_(models),
      text_(text),
      layer_(layer),
      width_(models.prior.spec().hidden),
      lends_(lent_by(models.prior.spec(), layer)),
      reads_(read_by(models.prior.spec(), layer)),
      in_(in),
      out_(out) {
  const auto load = [&](const Transformer& model) {
    const bool head = layer == model.spec().layers;
    blocks_.push_back(head ? nullptr : model.load_without_linears(layer));
  };
  if (layer < models.prior.spec().layers) {
    out.experts.take_lent(in.experts);
    out.merged.take_lent(in.merged);
  }
  load(models.prior);
  for (const Transformer* expert : models.experts) load(*expert);
  for (const Segment& s : text.segments) {
    parts_.push_back(
        {kExperts, models.experts[s.expert], blocks_[s.expert + 1].get(), &s, s.first_row});
    parts_.push_back({kMerged, &models.prior, blocks_[0].get(), &s, s.first_row});
    if (s.held_out) {
      parts_.push_back({kPrior, &models.prior, blocks_[0].get(), &s, s.first_row - text.fit_rows});
    }
  }
}

Streams BlockStreams::make(int64_t columns) const {
  return {Matrix(text_.rows, columns), Matrix(text_.rows, columns),
          Matrix(text_.held_rows(), columns)};
}

// A stream's hidden states before the block are in `in_`, those after a part of it in `out_`, but
// for the prior's: it begins with the merged stream's, and goes on in memory.
void BlockStreams::read_hidden(const StreamPart& part, int64_t row, std::span<float> values) const {
  if (part.stream == kPrior && moved_) {
    std::copy_n(prior_hidden_.row(part.first_row + row), values.size(), values.begin());
    return;
  }
  const StreamPair& pair = moved_ ? out_ : in_;
  const HiddenStates& states = part.stream == kExperts ? pair.experts : pair.merged;
  states.read(part.segment->first_row + row, values);
}

void BlockStreams::write_hidden(const StreamPart& part, int64_t row,
                                std::span<const float> values) {
  if (part.stream == kPrior) {
    std::ranges::copy(values, prior_hidden_.row(part.first_row + row));
  } else {
    HiddenStates& states = part.stream == kExperts ? out_.experts : out_.merged;
    states.write(part.segment->first_row + row, values);
  }
}

void BlockStreams::norm_hidden(const NormStep& step, Streams& y) {
  for (const StreamPart& part : parts_) {
    for_hidden(part, [&](int64_t first, std::span<float> hidden) {
      part.model->norm(*part.block, step, hidden.data(),
                       static_cast<int64_t>(hidden.size()) / width_,
                       y[part.stream].row(part.first_row + first));
    });
  }
}

void BlockStreams::norm(const NormStep& step, const Streams& x, Streams& y) const {
  for (const StreamPart& part : parts_) {
    part.model->norm(*part.block, step, x[part.stream].row(part.first_row), part.segment->rows,
                     y[part.stream].row(part.first_row));
  }
}

std::vector<Streams> BlockStreams::mix(const MixStep& step, std::span<Streams> in,
                                       std::span<const int64_t> widths) {
  std::vector<Streams> made(widths.size());
  std::vector<Streams*> out;  // an input whose memory is taken over, or one that is made
  for (size_t i = 0; i < widths.size(); ++i) {
    const auto same = std::ranges::find_if(in, [&](Streams& x) {
      return x[kMerged].columns == widths[i] && std::ranges::find(out, &x) == out.end();
    });
    if (same == in.end()) made[i] = make(widths[i]);
    out.push_back(same == in.end() ? &made[i] : &*same);
  }
  if (lends(step)) lent_ = make(lends_->count);
  const std::vector<MixGroup> groups = mix_groups();
  const auto compute = [&](size_t g) { mix_group(groups[g], step, in, out); };
  in_rounds(models_.ranks, groups.size(), compute, [&](size_t g, size_t owner) {
    const auto& [part, sequences, first_row, rows] = groups[g];
    std::vector<Streams*> made_here(out);
    if (lends(step)) made_here.push_back(&lent_);
    for (Streams* y : made_here) {
      Matrix& all = (*y)[part->stream];
      const std::span its(all.row(first_row), static_cast<size_t>(rows * all.columns));
      models_.ranks.broadcast(std::as_writable_bytes(its), owner);
    }
  });
  for (size_t i = 0; i < out.size(); ++i) {
    if (out[i] != &made[i]) made[i] = std::move(*out[i]);
  }
  return made;
}

std::vector<BlockStreams::MixGroup> BlockStreams::mix_groups() const {
  std::vector<MixGroup> groups;
  for (const StreamPart& part : parts_) {
    MixGroup group{&part, {}, part.first_row, 0};
    const auto end = [&] {
      if (group.rows == 0) return;
      const int64_t next = group.first_row + group.rows;
      groups.push_back(std::move(group));
      group = {&part, {}, next, 0};
    };
    for (SequenceRows s : part.segment->sequences) {
      if (group.rows + s.rows > kRowsPerGroup) end();
      s.first_row -= group.first_row - part.first_row;
      group.sequences.push_back(s);
      group.rows += s.rows;
    }
    end();
  }
  return groups;
}

// What a router reads (kRouterInput) is none of the mixer's keys.
bool BlockStreams::lends(const MixStep& step) const { return lends_ && step.stage != kRouterInput; }

void BlockStreams::prepare_side(SequenceRows& sequence, const Transformer& model,
                                const HiddenStates& states, int64_t row) const {
  if (!lends_ && !reads_) return;
  sequence.side = std::make_shared<SequenceSide>();
  if (!reads_) return;
  std::vector<float> lent(static_cast<size_t>(sequence.rows * reads_->count));
  states.read_lent(row, reads_->first, reads_->count, lent);
  set_lent(*sequence.side, model, reads_->layer, lent);
}

void BlockStreams::mix_group(const MixGroup& group, const MixStep& step, std::span<Streams> in,
                             std::span<Streams* const> out) {
  auto [part_of_group, sequences, first_row, rows] = group;
  const StreamPart& part = *part_of_group;
  const HiddenStates& states = part.stream == kExperts ? in_.experts : in_.merged;
  const int64_t text_row = part.segment->first_row + first_row - part.first_row;
  for (SequenceRows& s : sequences) prepare_side(s, *part.model, states, text_row + s.first_row);
  std::vector<Matrix> mixed;
  std::vector<float*> from, to;
  for (Streams& x : in) from.push_back(x[part.stream].row(first_row));
  for (const Streams* y : out) mixed.emplace_back(rows, (*y)[part.stream].columns);
  for (Matrix& y : mixed) to.push_back(y.row(0));
  part.model->mix(*part.block, step, sequences, rows, from, to);
  for (size_t i = 0; i < out.size(); ++i)
    std::ranges::copy(mixed[i].values, (*out[i])[part.stream].row(first_row));
  for (const SequenceRows& s : sequences) {
    if (!lends(step)) break;
    float* row = lent_[part.stream].row(first_row + s.first_row);
    read_lent(*s.side, *part.model, layer_, {row, static_cast<size_t>(s.rows * lends_->count)});
  }
}

void BlockStreams::keep_lent() {
  if (!lends_) return;
  out_.experts.write_lent(0, lends_->first, lends_->count, lent_[kExperts].values);
  out_.merged.write_lent(0, lends_->first, lends_->count, lent_[kMerged].values);
}

void BlockStreams::add(Streams& x, float multiplier) {
  if (!moved_) prior_hidden_ = Matrix(text_.held_rows(), width_);
  for (const StreamPart& part : parts_) {
    for_hidden(part, [&](int64_t first, std::span<float> hidden) {
      part.model->add_to_stream(x[part.stream].row(part.first_row + first), multiplier,
                                static_cast<int64_t>(hidden.size()) / width_, hidden.data());
      write_hidden(part, first, hidden);
    });
  }
  moved_ = true;
}

void BlockStreams::apply_per_layer_input(Streams& gate) const {
  for (const StreamPart& part : parts_) {
    part.model->apply_per_layer_input(*part.block, part.segment->sequences, part.segment->rows,
                                      gate[part.stream].row(part.first_row));
  }
}

void BlockStreams::scale(const ScaleStep& step) {
  for (const StreamPart& part : parts_) {
    for_hidden(part, [&](int64_t first, std::span<float> hidden) {
      part.model->scale_stream(*part.block, step, hidden.data(),
                               static_cast<int64_t>(hidden.size()));
      write_hidden(part, first, hidden);
    });
  }
}

void BlockStreams::take_prior() {
  if (lends_) {
    out_.merged.write_lent(text_.fit_rows, lends_->first, lends_->count, lent_[kPrior].values);
  }
  for (const StreamPart& part : parts_) {
    if (part.stream != kPrior) continue;
    for_hidden(part, [&](int64_t first, std::span<float> hidden) {
      out_.merged.write(part.segment->first_row + first, hidden);
    });
  }
  const auto block = models_.prior.load_block(layer_);
  for (const Segment& s : text_.segments) {
    if (s.held_out) continue;
    TokenBatch batch;
    batch.sequences = s.sequences;
    for (const auto& [first, last] : group_sequences(batch, kRowsPerGroup)) {
      std::vector<SequenceRows> group(s.sequences.begin() + static_cast<std::ptrdiff_t>(first),
                                      s.sequences.begin() + static_cast<std::ptrdiff_t>(last));
      const int64_t begin = group.front().first_row;
      const int64_t rows = group.back().first_row + group.back().rows - begin;
      for (SequenceRows& g : group) {
        prepare_side(g, models_.prior, in_.merged, s.first_row + g.first_row);
        g.first_row -= begin;
      }
      hidden_.resize(static_cast<size_t>(rows * width_));
      in_.merged.read(s.first_row + begin, hidden_);
      models_.prior.run_block(*block, group, hidden_);
      out_.merged.write(s.first_row + begin, hidden_);
      if (lends_) keep_lent_of_prior(group, s.first_row + begin);
    }
  }
}

// What the prior's block has lent while whole sequences of the text, from `row` on, went through
// it.
void BlockStreams::keep_lent_of_prior(std::span<const SequenceRows> sequences, int64_t row) {
  std::vector<float> lent;
  for (const SequenceRows& s : sequences) {
    lent.resize(static_cast<size_t>(s.rows * lends_->count));
    read_lent(*s.side, models_.prior, layer_, lent);
    out_.merged.write_lent(row + s.first_row, lends_->first, lends_->count, lent);
  }
}

}  // namespace lewis
