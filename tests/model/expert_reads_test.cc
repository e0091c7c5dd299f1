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
            31 * expert);
  EXPECT_LT(m.model.stored_block_bytes(), expert + 4 * 24 * 64 * sizeof(float));
}

}  // namespace
}  // namespace lewis
