// Laws of the forward pass and of generation, and what is refused.
#include "model/transformer.h"

#include <gtest/gtest.h>

#include <numeric>

#include "base/error.h"
#include "golden_file.h"
#include "random_model.h"
#include "test_model.h"

namespace lewis {
namespace {

std::vector<std::vector<int32_t>> some_sequences(size_t count, int32_t vocab, uint32_t seed = 2) {
  std::mt19937 random(seed);
  std::vector<std::vector<int32_t>> sequences(count);
  for (auto& s : sequences) {
    s.resize(random() % 20 + 1);
    for (int32_t& id : s) id = static_cast<int32_t>(random() % static_cast<uint32_t>(vocab));
  }
  return sequences;
}

void expect_refused(const RandomModel& model, const std::string& said) {
  try {
    const TestModel opened(model.dir.path);
    for (int64_t l = 0; l < opened.transformer.spec().layers; ++l) opened.transformer.load_block(l);
    FAIL() << "accepted; expected: " << said;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kInput) << e.what();
    EXPECT_NE(std::string(e.what()).find(said), std::string::npos) << e.what();
  }
}

TEST(RunLayers, ASequenceDoesNotFeelTheOthersNorTheGroups) {
  const RandomModel random;
  const TestModel model(random.dir.path);
  const auto sequences = some_sequences(9, 50);
  const auto together = run_layers(model.transformer, make_batch(sequences), {});
  const auto in_groups = run_layers(model.transformer, make_batch(sequences), {}, 7);
  size_t at = 0;
  for (const auto& s : sequences) {
    const auto alone = run_layers(model.transformer, make_batch(std::span(&s, 1)), {});
    for (size_t i = 0; i < alone.size(); ++i, ++at) {
      ASSERT_NEAR(together[at], alone[i], 1e-5) << at;
      ASSERT_NEAR(in_groups[at], alone[i], 1e-5) << at;
    }
  }
}

TEST(RunLayers, ThreadsDoNotChangeABit) {
  std::vector<std::filesystem::path> folders = golden_families();
  const RandomModel random;
  folders.push_back(random.dir.path);
  const auto batch = make_batch(some_sequences(40, 50));
  for (const auto& folder : folders) {
    std::vector<float> first;
    for (const size_t threads : {1, 2, 7}) {
      const TestModel model(folder, threads);
      const auto hidden = run_layers(model.transformer, batch, {});
      if (first.empty()) first = hidden;
      EXPECT_EQ(hidden, first) << folder << " " << threads;
    }
  }
}

// Multimodal models as transformers 4 and 5 store them: other prefixes, tensors of other parts.
TEST(Transformer, FindsTheTextModelAmongOtherTensors) {
  const RandomModel plain;
  const TestModel expected(plain.dir.path);
  const auto batch = make_batch(some_sequences(3, 50));
  const auto hidden = run_layers(expected.transformer, batch, {});
  for (const auto& [prefix, head] : {std::pair{"language_model.model.", "language_model.lm_head."},
                                     {"model.language_model.", "lm_head."}}) {
    RandomModel other;
    for (const auto& [name, values] : plain.tensors) {
      const bool is_head = name.starts_with("lm_head.");
      const std::string there = is_head ? head + name.substr(8) : prefix + name.substr(6);
      other.tensors.erase(name);
      other.tensors[there] = values;
      other.shapes[there] = plain.shapes.at(name);
    }
    other.add("model.vision_tower.layers.0.self_attn.q_proj.weight", {4, 4}, 1);
    other.add("vision_tower.layers.0.self_attn.q_proj.weight", {4, 4}, 1);
    other.write();
    const TestModel model(other.dir.path);
    EXPECT_EQ(run_layers(model.transformer, batch, {}), hidden) << prefix;
    EXPECT_EQ(linear_names(model.transformer.spec(), 1)[0],
              fmt::format("{}layers.1.self_attn.q_proj", prefix));
    other.add(std::string(prefix) + "layers.1.self_attn.q_norm.weight", {8}, 1);
    other.write();
    expect_refused(other, "q_norm.weight has no place");
  }
}

TEST(RunLayers, ProgressCountsTokensTimesLayers) {
  const RandomModel random;
  const TestModel model(random.dir.path);
  const auto batch = make_batch(some_sequences(5, 50));
  uint64_t last = 0;
  run_layers(
      model.transformer, batch,
      [&](const Progress& p) {
        EXPECT_GT(p.done, last);
        last = p.done;
        EXPECT_EQ(p.total, batch.ids.size() * 3);
      },
      7);
  EXPECT_EQ(last, batch.ids.size() * 3);
}

TEST(GroupSequences, WholeSequencesUpToTheLimit) {
  const auto batch =
      make_batch(std::vector<std::vector<int32_t>>{{1, 2}, {1}, {1, 2, 3, 4}, {1}, {1}});
  using Groups = std::vector<std::pair<size_t, size_t>>;
  EXPECT_EQ(group_sequences(batch, 3), (Groups{{0, 2}, {2, 3}, {3, 5}}));
  EXPECT_EQ(group_sequences(batch, 100), (Groups{{0, 5}}));
}

// Greedy by running the whole text anew for every token.
std::vector<int32_t> plain_greedy(const Transformer& model, std::vector<int32_t> ids,
                                  size_t count) {
  std::vector<int32_t> found;
  for (size_t n = 0; n < count; ++n) {
    const auto hidden = run_layers(model, make_batch(std::span(&ids, 1)), {});
    std::vector<float> logits(static_cast<size_t>(model.spec().vocab));
    const int64_t last = static_cast<int64_t>(ids.size()) - 1;
    model.head(hidden, std::span(&last, 1), logits);
    ids.push_back(
        static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    found.push_back(ids.back());
  }
  return found;
}

// A plain model, windows, ropes that change with the length, experts.
TEST(Generate, CacheAndBatchChangeNothing) {
  const RandomModel random;
  std::vector<std::filesystem::path> folders = {random.dir.path};
  for (const char* name : {"gemma3_linear", "llama_dynamic", "phi3_partial", "mixtral_window"}) {
    folders.push_back(std::filesystem::path(LEWIS_TEST_DATA "/golden/variants") / name);
  }
  for (const auto& folder : folders) {
    const TestModel model(folder);
    const auto prompts = some_sequences(7, 50);
    const auto found = generate(model.transformer, prompts, {.max_new_tokens = 24, .batch = 4});
    for (size_t i = 0; i < prompts.size(); ++i)
      EXPECT_EQ(found[i], plain_greedy(model.transformer, prompts[i], 24)) << folder << i;
  }
}

TEST(Generate, EndsAtStopsAndAtThePositions) {
  const RandomModel random;
  const TestModel model(random.dir.path);
  const std::vector<std::vector<int32_t>> prompts = {{1, 2, 3}};
  const auto whole = generate(model.transformer, prompts, {.max_new_tokens = 1000})[0];
  EXPECT_EQ(whole.size(), 64u - 3 + 1);  // the last token needs no position of its own
  const auto stopped =
      generate(model.transformer, prompts, {.max_new_tokens = 1000, .stop_ids = {whole[5]}})[0];
  const auto at =
      static_cast<size_t>(std::find(whole.begin(), whole.end(), whole[5]) - whole.begin());
  EXPECT_EQ(stopped,
            std::vector<int32_t>(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(at)));
  const auto asked = generate(
      model.transformer, prompts,
      {.max_new_tokens = 1000, .stop = [](size_t, auto ids) { return ids.size() == 4; }})[0];
  EXPECT_EQ(asked, std::vector<int32_t>(whole.begin(), whole.begin() + 4));
  EXPECT_THROW(generate(model.transformer, std::vector<std::vector<int32_t>>{{}}, {}), Error);
  const std::vector<int32_t> full(64, 1);
  EXPECT_THROW(generate(model.transformer, std::span(&full, 1), {}), Error);
}

TEST(LoadBlock, EditSeesAndChangesEveryLinear) {
  const RandomModel random;
  const TestModel model(random.dir.path);
  std::vector<std::string> seen;
  const auto zeroed = model.transformer.load_block(
      1, [&](std::string_view module, std::span<float> weight, int64_t out, int64_t in) {
        seen.emplace_back(module);
        EXPECT_EQ(weight.size(), static_cast<size_t>(out * in));
        EXPECT_TRUE(std::ranges::equal(weight, random.tensors.at(std::string(module) + ".weight")));
        std::fill(weight.begin(), weight.end(), 0.0f);
      });
  EXPECT_EQ(seen, linear_names(model.transformer.spec(), 1));
  // A block of zero weights adds nothing to the stream.
  std::vector<float> hidden(3 * 24);
  std::iota(hidden.begin(), hidden.end(), 1.0f);
  const auto before = hidden;
  const SequenceRows sequence{0, 3, 0, nullptr};
  model.transformer.run_block(*zeroed, std::span(&sequence, 1), hidden);
  EXPECT_EQ(hidden, before);
}

TEST(Transformer, RefusesTensorsThatDoNotFit) {
  const auto spoil = [](auto change) {
    auto model = std::make_unique<RandomModel>();
    change(*model);
    model->write();
    return model;
  };
  expect_refused(
      *spoil([](RandomModel& m) { m.tensors.erase("model.layers.1.mlp.up_proj.weight"); }),
      "tensor model.layers.1.mlp.up_proj.weight is missing");
  expect_refused(*spoil([](RandomModel& m) {
    m.add("model.layers.2.self_attn.k_proj.weight", {8, 24}, 1);
  }),
                 "model.layers.2.self_attn.k_proj.weight has shape [8, 24]");
  expect_refused(
      *spoil([](RandomModel& m) { m.add("model.layers.0.self_attn.q_norm.weight", {8}, 1); }),
      "q_norm.weight has no place");
  expect_refused(*spoil([](RandomModel& m) {
    m.add("model.layers.3.mlp.up_proj.weight", {40, 24}, 1);
  }),
                 "model.layers.3.mlp.up_proj.weight has no place");
  expect_refused(
      *spoil([](RandomModel& m) { m.tensors["model.layers.1.mlp.up_proj.weight"][17] = NAN; }),
      "model.layers.1.mlp.up_proj.weight holds a value that is not finite");
}

TEST(Transformer, RefusesTokensAndTextsThatDoNotFit) {
  const RandomModel random;
  const TestModel model(random.dir.path);
  std::vector<float> hidden(24 * 65);
  for (const int32_t id : {-1, 50})
    EXPECT_THROW(model.transformer.embed(std::span(&id, 1), std::span(hidden).first(24)), Error);
  const std::vector<int32_t> too_long(65, 1);
  EXPECT_THROW(run_layers(model.transformer, make_batch(std::span(&too_long, 1)), {}), Error);
}

}  // namespace
}  // namespace lewis
