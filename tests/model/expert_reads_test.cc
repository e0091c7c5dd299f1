// A mixture's experts in memory: which are read, and when.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <mutex>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/threads.h"
#include "io/checkpoint.h"
#include "model/kept_weights.h"
#include "model/transformer.h"
#include "random_model.h"

namespace lewis {
namespace {

// A checkpoint that remembers the names of the experts' tensors that were read.
class Watched final : public TensorSource {
 public:
  explicit Watched(const std::filesystem::path& folder) : inner_(Checkpoint::open(folder)) {}
  const std::string& label() const override { return inner_.label(); }
  const std::vector<TensorInfo>& tensors() const override { return inner_.tensors(); }
  void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const override {
    const std::lock_guard lock(mutex_);
    const auto at = tensor.name.find(".experts.");
    if (at != std::string::npos) {
      const std::string rest = tensor.name.substr(at + 9);
      experts_.insert(std::stoll(rest));
      ++reads_;
    }
    inner_.read(tensor, first, out);
  }
  // Since the last call.
  std::set<int64_t> experts() const { return std::exchange(experts_, {}); }
  int reads() const { return std::exchange(reads_, 0); }

 private:
  Checkpoint inner_;
  mutable std::mutex mutex_;
  mutable std::set<int64_t> experts_;
  mutable int reads_ = 0;
};

struct Mixture {
  RandomModel random{Json{{"model_type", "qwen3_moe"},
                          {"num_experts", 32},
                          {"num_experts_per_tok", 2},
                          {"moe_intermediate_size", 16},
                          {"norm_topk_prob", true}}};
  Watched source{random.dir.path};
  Threads threads{2};
  std::unique_ptr<Backend> backend = make_cpu_backend(threads);
  Transformer model{source, random.spec, *backend, threads};

  // The hidden states after the first block, and the experts that tokens were sent to.
  std::pair<std::vector<float>, std::set<int64_t>> run(const BlockWeights& block) const {
    const std::vector<int32_t> ids = {3, 14, 15, 9, 26};
    std::vector<float> hidden(ids.size() * 24);
    model.embed(ids, hidden);
    std::set<int64_t> chosen;
    const std::vector<SequenceRows> sequences = {{0, 2, 0, nullptr}, {2, 3, 0, nullptr}};
    model.run_block(block, sequences, hidden, [&](const Tapped& tapped) {
      if (tapped.expert >= 0) chosen.insert(tapped.expert);
    });
    return {hidden, chosen};
  }
};

TEST(ExpertReads, OnlyWhatTokensAreSentToIsRead) {
  const Mixture m;
  m.source.experts();
  const auto block = m.model.load_block(0);
  m.model.read_ahead(1);
  m.model.load_block(1);
  EXPECT_EQ(m.source.reads(), 0) << "experts were read with their block";
  const auto [hidden, chosen] = m.run(*block);
  EXPECT_GE(chosen.size(), 2u);
  EXPECT_LE(chosen.size(), 10u);
  EXPECT_EQ(m.source.experts(), chosen);
  EXPECT_EQ(m.source.reads(), static_cast<int>(3 * chosen.size()));
  const auto whole = m.model.load_block(0, {}, ReadExperts::kWithBlock);
  EXPECT_EQ(m.source.reads(), 3 * 32);
  EXPECT_EQ(m.run(*whole), std::pair(hidden, chosen)) << "other bits";
  EXPECT_EQ(m.source.reads(), 0);
}

TEST(ExpertReads, AnEditReachesExpertsThatAreReadLater) {
  const Mixture m;
  const WeightEdit halve = [](std::string_view, std::span<float> weight, int64_t, int64_t) {
    for (float& v : weight) v /= 2;
  };
  const auto plain = m.run(*m.model.load_block(0)).first;
  const auto later = m.run(*m.model.load_block(0, halve));
  EXPECT_NE(later.first, plain);
  EXPECT_EQ(m.run(*m.model.load_block(0, halve, ReadExperts::kWithBlock)), later);
}

// NaN in an expert is named when the expert is used, and is no error where it is not.
TEST(ExpertReads, DamageIsNamedWhereItIsUsed) {
  Mixture m;
  const std::set<int64_t> chosen = m.run(*m.model.load_block(0)).second;
  for (const bool used : {true, false}) {
    RandomModel damaged(m.random.config);
    for (int64_t e = 0; e < 32; ++e) {
      if (chosen.contains(e) != used) continue;
      damaged.tensors.at(fmt::format("model.layers.0.mlp.experts.{}.up_proj.weight", e))[5] = NAN;
    }
    damaged.write();
    const Checkpoint checkpoint = Checkpoint::open(damaged.dir.path);
    const Transformer model(checkpoint, damaged.spec, *m.backend, m.threads);
    std::vector<float> hidden(5 * 24);
    const std::vector<int32_t> ids = {3, 14, 15, 9, 26};
    model.embed(ids, hidden);
    const std::vector<SequenceRows> sequences = {{0, 2, 0, nullptr}, {2, 3, 0, nullptr}};
    const auto run = [&] { model.run_block(*model.load_block(0), sequences, hidden); };
    if (!used) {
      EXPECT_NO_THROW(run());
      continue;
    }
    try {
      run();
      ADD_FAILURE() << "NaN was multiplied";
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("up_proj.weight"), std::string::npos) << e.what();
    }
  }
}

TEST(ExpertReads, ABlockCountsWithOneExpert) {
  const Mixture m;
  const uint64_t expert = 3 * 16 * 24 * sizeof(float);
  EXPECT_EQ(m.model.packed_block_bytes(ReadExperts::kWithBlock) - m.model.packed_block_bytes(),
            29 * expert);  // two more as they are stored
  EXPECT_LT(m.model.stored_block_bytes(), expert + 4 * 24 * 64 * sizeof(float));
}

// Generation with less and less memory: the same tokens, and more reads.
TEST(ExpertReads, GenerationReadsWhatDoesNotFit) {
  const Mixture m;
  const std::vector<std::vector<int32_t>> prompts = {{3, 14, 15}, {9, 26}, {5, 3, 5}};
  std::vector<std::string> notes;
  GenerateOptions options;
  options.max_new_tokens = 6;
  options.batch = 2;
  options.note = [&](const std::string& note) { notes.push_back(note); };
  const auto expected = generate(m.model, prompts, options);
  const int all = m.source.reads();
  EXPECT_EQ(all % (3 * 32), 0) << "each expert of each layer once";
  EXPECT_TRUE(notes.empty());
  options.max_memory = 1;
  uint64_t least = 0;
  try {
    generate(m.model, prompts, options);
    FAIL() << "one byte was enough";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kResource);
    const std::string text = e.what();
    least = std::stoull(text.substr(text.find("at least ") + 9));
  }
  const uint64_t expert = 3 * 16 * 24 * sizeof(float);
  for (const uint64_t more : {uint64_t{0}, 40 * expert, 80 * expert}) {
    notes.clear();
    options.max_memory = least + more;
    EXPECT_EQ(generate(m.model, prompts, options), expected) << more;
    ASSERT_EQ(notes.size(), 1u);
    EXPECT_NE(notes[0].find("generation reads the others whenever they are used"),
              std::string::npos);
    const int reads = m.source.reads();
    EXPECT_EQ(reads % 3, 0) << "whole experts";
    EXPECT_GT(reads, 0);
  }
  notes.clear();
  options.max_memory = least + 10'000 * expert;
  EXPECT_EQ(generate(m.model, prompts, options), expected);
  EXPECT_EQ(m.source.reads(), all);
  EXPECT_TRUE(notes.empty());
  options.max_memory = least - 1;
  EXPECT_THROW(generate(m.model, prompts, options), Error);
}

// What stays is what fits: the plan's own sums against those of the checkpoint.
TEST(ExpertReads, WhatStaysIsWhatFits) {
  const Mixture m;
  const GenerationSize size = {8, 16, 2};
  uint64_t weights = 0;
  for (const TensorInfo& t : m.source.tensors()) {
    const bool norm = t.shape.size() < 2;
    const bool end = t.name.find("embed") != std::string::npos || t.name.starts_with("lm_head");
    if (!norm && !end) weights += byte_size(t);
  }
  EXPECT_EQ(keep_weights(m.model, size, 0).all_bytes, weights);
  EXPECT_TRUE(keep_weights(m.model, size, 0).all());
  uint64_t before = 0;
  bool some_experts = false;
  for (uint64_t limit = 64'000'000; limit < 66'000'000; limit += 20'000) {
    KeptWeights kept;
    try {
      kept = keep_weights(m.model, size, limit);
    } catch (const Error&) {
      EXPECT_EQ(before, 0u);
      continue;
    }
    EXPECT_GE(kept.bytes, before);
    EXPECT_LE(kept.bytes, limit);
    EXPECT_EQ(kept.all(), kept.step_bytes == 0);
    EXPECT_EQ(kept.all(), kept.layers == m.model.spec().layers && kept.experts == 32);
    EXPECT_TRUE(kept.experts == 0 || kept.layers == m.model.spec().layers);
    some_experts |= kept.experts > 0 && kept.experts < 32;
    before = kept.bytes;
  }
  EXPECT_TRUE(some_experts);
  EXPECT_EQ(before, weights);
}

}  // namespace
}  // namespace lewis
