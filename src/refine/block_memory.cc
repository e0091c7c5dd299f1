// Memory that refining a block takes: follows refine_block through the steps.
#include <algorithm>
#include <set>

#include "model/mixer.h"
#include "refine/block.h"
#include "refine/block_streams.h"
#include "refine/layer_solver.h"
#include "refine/lent_keys.h"

namespace lewis {
namespace {

uint64_t stored_bytes(const Transformer& model, const LinearLayer& l) {
  return static_cast<uint64_t>(l.out * l.in) * dtype_size(model.source().get(l.tensor).dtype);
}

class MemoryWalk {
 public:
  MemoryWalk(const RefineModels& models, const TextRows& text, const RefineSettings& settings)
      : models_(models),
        settings_(settings),
        text_(text),
        rows_(static_cast<uint64_t>(2 * text.rows + text.held_rows())),
        fit_(static_cast<uint64_t>(text.fit_rows)) {}

  // The most that a step of the block holds.
  uint64_t most(const BlockSteps& block) {
    block_ = &block;
    most_ = live_ = 0;
    for (const Step& step : block.steps) {
      std::visit([this](const auto& does) { answer(does); }, step.does);
      for (const Value value : step.ends) live_ -= made_.erase(value) ? width(value) : 0;
    }
    return most_;
  }

 private:
  uint64_t width(Value value) const { return static_cast<uint64_t>(block_->width(value)); }
  // A value of all streams, or a panel of so many columns.
  uint64_t bytes(uint64_t columns) const { return 4 * rows_ * columns; }
  void make(Value value) {
    if (made_.insert(value).second) live_ += width(value);
  }
  void hold(uint64_t besides_values) { most_ = std::max(most_, bytes(live_) + besides_values); }

  // The factor; right side and solution; weights, packed and as floats; target and baseline.
  uint64_t solving(int index) const {
    const LinearLayer& l = block_->linear(index);
    const auto in = static_cast<uint64_t>(l.in), panel = panel_of(l);
    const double off_diagonal = settings_.off_diagonal;
    const bool tokens =
        fit_ < in && (settings_.method != RefineMethod::kRegmean || off_diagonal == 1);
    const uint64_t size = tokens ? fit_ : in;
    uint64_t bytes =
        8 * size * size + 16 * (size + in) * panel + 12 * in * panel + 8 * fit_ * panel;
    if (settings_.prior_scale != 1.0) bytes += 4 * in * panel;
    return std::max(bytes, choosing(in, size));
  }
  // The matrix beside its factor; what the probed channels give; their right sides and solutions.
  uint64_t choosing(uint64_t in, uint64_t size) const {
    const ChoiceTable table =
        choice_table(settings_, text_.held_rows() > 0, models_.base != nullptr);
    if (table.size() == 1) return 0;
    const uint64_t channels = kProbedChannels, sides = 3 * channels;
    const auto rows = static_cast<uint64_t>(text_.rows);
    return 16 * size * size + 4 * rows * (8 * channels + 2 * sides) + 16 * size * sides +
           12 * in * sides;
  }
  // Solving the router: probabilities; some vectors of its size; a piece of inputs, squared.
  uint64_t routing(const LinearLayer& router) const {
    if (!settings_.routers) return 0;
    const auto out = static_cast<uint64_t>(router.out), in = static_cast<uint64_t>(router.in);
    return 8 * fit_ * out + 64 * out * in + kRowsPerGroup * (4 * in + 12 * out);
  }
  static uint64_t panel_of(const LinearLayer& l) {
    return std::min<uint64_t>(kPanel, static_cast<uint64_t>(l.out));
  }
  // Gate and up are solved in panels of both.
  uint64_t solving_gated(int gate, int up) const {
    const uint64_t both = std::max(solving(up), gate == kNoIndex ? 0 : solving(gate));
    return bytes(2 * panel_of(block_->linear(up))) + both;
  }

  void answer(const NormStep& step) {
    make(step.out);
    hold(0);
  }
  void answer(const LinearsStep& step) {
    for (const LinearOutput& output : step.outputs) make(output.out);
    for (const LinearOutput& output : step.outputs) hold(solving(output.linear));
  }
  // An output takes over the memory of an input of its width; the others are there as well.
  void answer(const MixStep& step) {
    std::multiset<uint64_t> inputs;
    for (const Value value : step.in) inputs.insert(width(value));
    uint64_t more = 0;
    for (const Value value : step.out) {
      const auto same = inputs.find(width(value));
      if (same == inputs.end()) {
        more += width(value);
      } else {
        inputs.erase(same);
      }
    }
    // A group's outputs are made apart, and the mixer works in more.
    const ModelSpec& spec = models_.prior.spec();
    int64_t apart = 0;
    for (const LayerSpec& layer : spec.layer)
      apart = std::max(apart, layer.mixer->working_values(spec, ComputeType::kF32));
    for (const Value value : step.out) apart += block_->width(value);
    // Keys and values of the group that are lent, and of all streams until the block is done.
    if (const auto reads = read_by(spec, block_->layer)) apart += 2 * reads->count;
    if (const auto lends = lent_by(spec, block_->layer); lends && step.stage != kRouterInput) {
      apart += lends->count;
      live_ += static_cast<uint64_t>(lends->count);
    }
    hold(bytes(more) + 4 * static_cast<uint64_t>(group_rows() * apart));
    for (const Value value : step.out) make(value);
  }
  // Rows of whole sequences that go through a mixer together.
  int64_t group_rows() const {
    int64_t longest = kRowsPerGroup;
    for (const Segment& segment : text_.segments) {
      for (const SequenceRows& s : segment.sequences) longest = std::max(longest, s.rows);
    }
    return std::min(longest, text_.rows);
  }
  void answer(const GatedStep& step) {
    make(step.out);
    hold(solving_gated(step.gate, step.up));
  }
  // Input, output and the router's choices beside the layers of an expert, which at most sees all
  // tokens, or beside a block that runs.
  void answer(const ExpertsStep& step) {
    const ModelSpec& spec = models_.prior.spec();
    make(step.out);
    const uint64_t chosen = 16 * static_cast<uint64_t>(text_.rows * spec.experts.chosen);
    const auto hold_expert = [&](const ExpertLinears& e) {
      if (e.up == kNoIndex) return;
      const LinearLayer& down = block_->linear(e.down);
      const uint64_t values = bytes(static_cast<uint64_t>(down.in + down.out));
      hold(chosen + values + std::max(solving_gated(e.gate, e.up), solving(e.down)));
    };
    hold_expert(step.shared);
    if (!step.experts.empty()) hold_expert(step.experts[0]);  // all have one shape
    uint64_t block = models_.prior.packed_block_bytes();
    for (const Transformer* expert : models_.experts)
      block = std::max(block, expert->packed_block_bytes());
    // Scores: the experts', the prior's, those that are chosen by, the new router's.
    const uint64_t values =
        static_cast<uint64_t>(text_.rows * (4 * spec.experts.count + 2 * spec.hidden));
    hold(chosen + block + 4 * values + models_.prior.activation_bytes(kRowsPerGroup));
    hold(chosen + block + 4 * values + routing(block_->linear(step.router)));
  }
  void answer(const PerLayerStep&) {}
  void answer(const ScaleStep&) {}
  void answer(const SumStep&) {}
  void answer(const AddStep&) {}

  const RefineModels& models_;
  const RefineSettings& settings_;
  const TextRows& text_;
  uint64_t rows_, fit_;  // of all streams together; that are fitted to
  const BlockSteps* block_ = nullptr;
  std::set<Value> made_;
  uint64_t live_ = 0, most_ = 0;  // columns of the values that exist; bytes
};

}  // namespace

uint64_t block_memory(const RefineModels& models, const TextRows& text,
                      const RefineSettings& settings) {
  const ModelSpec& spec = models.prior.spec();
  uint64_t most = 0, tensors = 0;
  if (refines_head(models, settings))
    tensors = stored_bytes(models.prior, *models.prior.untied_head());
  MemoryWalk walk(models, text, settings);
  for (int64_t layer = 0; layer < spec.layers; ++layer) {
    const BlockSteps block = block_steps(spec, layer);
    uint64_t stored = 0;
    for (const LinearLayer& l : block.linears) stored += stored_bytes(models.prior, l);
    tensors = std::max(tensors, stored);
    most = std::max(most, walk.most(block));
  }
  // The models are open together, each with the buffers that it last read with.
  uint64_t reading = models.prior.block_reading_bytes();
  uint64_t embedding = models.prior.embedding_reading_bytes();
  if (models.base) reading += models.base->block_reading_bytes();
  for (const Transformer* expert : models.experts) {
    reading += expert->block_reading_bytes();
    embedding = std::max(embedding, expert->embedding_reading_bytes());
  }
  constexpr uint64_t kProgram = 64'000'000;
  return kProgram + std::max(most + 2 * tensors + reading, embedding);
}

}  // namespace lewis
