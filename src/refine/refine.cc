#include "refine/refine.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <future>
#include <set>

#include "base/error.h"
#include "refine/lent_keys.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

void check_shapes(const RefineModels& models) {
  const ModelSpec& spec = models.prior.spec();
  const std::string& name = models.prior.source().label();
  std::vector<const Transformer*> others = models.experts;
  if (models.base) others.push_back(models.base);
  for (const Transformer* expert : others) {
    const ModelSpec& other = expert->spec();
    const auto refuse = [&](std::string_view what) {
      throw input_error("{} and {} differ in {}: refine needs models of one shape",
                        expert->source().label(), name, what);
    };
    if (other.layers != spec.layers) refuse("the number of layers");
    if (other.vocab != spec.vocab) refuse("their vocabulary");
    if (!std::ranges::equal(other.layer, spec.layer, {}, &LayerSpec::kv_source,
                            &LayerSpec::kv_source))
      refuse("the layers whose keys and values the last ones read (num_kv_shared_layers)");
    for (int64_t layer = 0; layer < spec.layers; ++layer) {
      const auto a = linear_layers(spec, layer), b = linear_layers(other, layer);
      const bool same = std::ranges::equal(a, b, [](const LinearLayer& x, const LinearLayer& y) {
        return x.role == y.role && x.in == y.in && x.out == y.out && x.expert == y.expert &&
               x.input == y.input && x.bias.empty() == y.bias.empty();
      });
      if (!same) refuse(fmt::format("the linear layers of block {}", layer));
    }
  }
}

void check_texts(const RefineModels& models, std::span<const std::vector<TokenSequence>> texts) {
  const int64_t most = models.prior.spec().max_positions;
  for (size_t k = 0; k < texts.size(); ++k) {
    for (size_t i = 0; i < texts[k].size(); ++i) {
      const auto length = static_cast<int64_t>(texts[k][i].ids.size());
      if (length < 1 || length > most) {
        throw input_error(
            "sequence {} of {}'s text has {} tokens, expected 1 to {} (the model's "
            "positions)",
            i, models.experts[k]->source().label(), length, most);
      }
    }
  }
}

// Bytes of both streams before and after a block, with what blocks lend to later ones.
uint64_t stream_bytes(const RefineModels& models, const TextRows& text) {
  const ModelSpec& spec = models.prior.spec();
  const int64_t width = spec.hidden + lent_width(spec);
  return 4 * static_cast<uint64_t>(text.rows * width) * sizeof(float);
}

// Whether hidden states go to files; Error(kResource) when even that is too much.
bool plan_memory(const RefineModels& models, const TextRows& text, const RefineSettings& settings,
                 uint64_t limit) {
  const uint64_t least = block_memory(models, text, settings);
  if (limit == 0 || least + stream_bytes(models, text) <= limit) return false;
  if (least > limit) {
    throw resource_error(
        "--max-memory {}: refining with {} tokens needs at least {} bytes; fewer samples need less",
        limit, text.rows, least);
  }
  return true;
}

// Bytes of all tensors that can change: linear layers, their biases and the norms around them.
uint64_t refined_bytes(const RefineModels& models, const RefineSettings& settings) {
  const ModelSpec& spec = models.prior.spec();
  std::set<std::string> names;
  const auto add = [&](const LinearLayer& l) {
    if (!is_measured(l) && !settings.routers) return;
    names.insert(l.tensor);
    if (!l.bias.empty()) names.insert(l.bias);
  };
  for (int64_t layer = 0; layer < spec.layers; ++layer) {
    const BlockSteps block = block_steps(spec, layer);
    for (const LinearLayer& l : block.linears) add(l);
    for (const BlockNorm& norm : block.norms) {
      if (settings.norms && !norm.spec.bias) names.insert(norm.name + ".weight");
    }
  }
  if (refines_head(models, settings)) add(*models.prior.untied_head());
  uint64_t bytes = 0;
  for (const std::string& name : names) bytes += byte_size(models.prior.source().get(name));
  return bytes;
}

BlockResult without_tensors(const BlockResult& r) {
  return {{},        r.error_solved, r.error_prior, r.kept_prior,
          r.choices, r.routers,      r.notes,       r.seconds};
}

class Refinement {
 public:
  // `journal`: of the first process; null in the others.
  Refinement(const RefineModels& models, const TextRows& text, const RefineOptions& options,
             RefineJournal* journal, bool spill)
      : models_(models), text_(text), options_(options), journal_(journal), spill_(spill) {}

  void run(RefineReport& report) {
    const int64_t layers = models_.prior.spec().layers, first = shared_start();
    StreamPair now = streams(0), next = streams(1);
    const int64_t steps = layers + (refines_head(models_, options_.settings) ? 1 : 0);
    report.resumed = first;
    report.layers = layers;
    for (int64_t l = 0; l < first; ++l) {
      if (journal_) report.blocks.push_back(journal_->result(l));
      done_ += weights_of(l);
    }
    for (int64_t l = 0; l < steps; ++l) total_ += weights_of(l);
    if (first == steps) return;
    first > 0 ? load_streams(now) : embed(now);
    std::future<void> written;  // the block before, while this one is solved
    for (int64_t l = first; l < steps; ++l) {
      tell(0);
      const auto begin = std::chrono::steady_clock::now();
      const auto result = std::make_shared<BlockResult>(
          refine_block(models_, text_, options_.settings, l, now, next,
                       [&](uint64_t weights) { tell(weights); }));
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
      result->seconds = took.count();
      check_agreement(*result, l);
      if (written.valid()) written.get();
      if (l < layers) std::swap(now, next);  // the head ends the streams
      report.blocks.push_back(without_tensors(*result));
      if (!journal_) continue;
      written = std::async(std::launch::async, [this, result, &now] {
        journal_->add(*result, models_.prior.source(), now);
      });
    }
    if (written.valid()) written.get();
  }

 private:
  // The blocks that are finished, as the first process sees them. Its folder is there from then on.
  int64_t shared_start() const {
    int64_t first = journal_ ? journal_->blocks_done() : 0;
    models_.ranks.broadcast(std::as_writable_bytes(std::span(&first, 1)), 0);
    return first;
  }

  void load_streams(StreamPair& streams) const {
    if (journal_) journal_->load_streams(streams);
    if (models_.ranks.size() == 1) return;
    for (HiddenStates* states : {&streams.experts, &streams.merged}) {
      states->for_pieces([&](int64_t first, std::span<float> values) {
        if (journal_) states->read_piece(first, values);
        models_.ranks.broadcast(std::as_writable_bytes(values), 0);
        if (!journal_) states->write_piece(first, values);
      });
    }
  }

  // All processes compute a block's error by themselves. Where they do not agree, their machines
  // compute differently, and what one decides would not fit what another one sends.
  void check_agreement(const BlockResult& result, int64_t block) const {
    std::array<double, 2> errors = {result.error_solved, result.error_prior};
    models_.ranks.broadcast(std::as_writable_bytes(std::span(errors)), 0);
    if (errors[0] == result.error_solved && errors[1] == result.error_prior) return;
    throw failed_error(
        "block {}: process {} has an error of {}, the first one {}: their machines do not compute "
        "alike; use nodes of one kind",
        block, models_.ranks.rank(), result.error_solved, errors[0]);
  }

  StreamPair streams(int generation) const {
    const auto make = [&](std::string_view name) {
      const std::string rank =
          models_.ranks.is_first() ? "" : fmt::format("-{}", models_.ranks.rank());
      const fs::path file = options_.scratch / fmt::format("{}-{}{}.spill", name, generation, rank);
      const ModelSpec& spec = models_.prior.spec();
      return HiddenStates(text_.rows, spec.hidden, lent_width(spec), spill_ ? file : fs::path());
    };
    return {make("experts"), make("merged")};
  }

  void embed(StreamPair& streams) const {
    const auto width = static_cast<size_t>(models_.prior.spec().hidden);
    std::vector<float> hidden;
    for (const Segment& s : text_.segments) {
      const auto rows = static_cast<size_t>(s.rows), first = static_cast<size_t>(s.first_row);
      const auto ids = std::span(text_.ids).subspan(first, rows);
      hidden.resize(rows * width);
      models_.experts[s.expert]->embed_once(ids, hidden);
      streams.experts.write(s.first_row, hidden);
      models_.prior.embed_once(ids, hidden);
      streams.merged.write(s.first_row, hidden);
    }
  }

  uint64_t weights_of(int64_t layer) const {
    if (layer == models_.prior.spec().layers)
      return static_cast<uint64_t>(models_.prior.spec().vocab * models_.prior.spec().hidden);
    uint64_t weights = 0;
    for (const LinearLayer& l : linear_layers(models_.prior.spec(), layer))
      weights += static_cast<uint64_t>(l.out * l.in);
    return weights;
  }

  void tell(uint64_t weights) {
    done_ += weights;
    if (options_.progress) options_.progress({"refining", "weights", done_, total_});
  }

  const RefineModels& models_;
  const TextRows& text_;
  const RefineOptions& options_;
  RefineJournal* journal_;
  bool spill_;
  uint64_t done_ = 0, total_ = 0;
};

}  // namespace

// The folder holds the refined tensors, the streams of the last two blocks while the next is
// written, and those that are spilled.
RefineCost refine_cost(const RefineModels& models,
                       std::span<const std::vector<TokenSequence>> texts,
                       const RefineSettings& settings, uint64_t max_memory) {
  check_shapes(models);
  check_texts(models, texts);
  const TextRows text = lay_out_text(texts, settings.held_out, settings.question_weight);
  const bool spill = plan_memory(models, text, settings, max_memory);
  const uint64_t streams = stream_bytes(models, text);
  RefineCost cost{static_cast<uint64_t>(text.rows), 0, block_memory(models, text, settings), 0};
  cost.peak_memory = cost.least_memory + (spill ? 0 : streams);
  cost.disk = settings.passes * (refined_bytes(models, settings) + (spill ? 2 : 1) * streams);
  return cost;
}

std::shared_ptr<RefineJournal> refine(const RefineModels& models,
                                      std::span<const std::vector<TokenSequence>> texts,
                                      const RefineOptions& options, RefineReport& report) {
  check_shapes(models);
  check_texts(models, texts);
  const TextRows text =
      lay_out_text(texts, options.settings.held_out, options.settings.question_weight);
  report.tokens = static_cast<uint64_t>(text.rows);
  report.held_out = static_cast<uint64_t>(text.held_rows());
  const bool spill = plan_memory(models, text, options.settings, options.max_memory);
  std::shared_ptr<RefineJournal> journal;
  if (models.ranks.is_first())
    journal = std::make_shared<RefineJournal>(options.scratch, options.plan, options.resume);
  if (journal && options.keep) journal->keep();
  try {
    Refinement(models, text, options, journal.get(), spill).run(report);
  } catch (const Error& e) {
    if (e.code() != ExitCode::kInterrupted || !journal) throw;
    journal->keep();
    throw Error(e.code(), fmt::format("{}; the refined blocks stay in {}, --resume goes on",
                                      e.what(), options.scratch.string()));
  }
  return journal;
}

}  // namespace lewis
