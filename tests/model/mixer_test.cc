// The seam of mixers, by one that is defined here: steps, forward pass and generation. Calibration
// and refinement with it are in tests/calibrate and tests/refine.
#include "model/mixer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>

#include "base/error.h"
#include "echo_model.h"
#include "model/transformer.h"
#include "test_model.h"

namespace lewis {
namespace {

// y [rows, out] = x W^T.
std::vector<float> product(const std::vector<float>& x, const std::vector<float>& w, size_t in) {
  const size_t rows = x.size() / in, out = w.size() / in;
  std::vector<float> y(rows * out);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t o = 0; o < out; ++o) {
      for (size_t j = 0; j < in; ++j) y[r * out + o] += x[r * in + j] * w[o * in + j];
    }
  }
  return y;
}

TEST(Mixer, NamesItsLinearLayersInTheOrderOfTheirSteps) {
  const EchoModel echo;
  EXPECT_EQ(linear_names(echo.random.spec, 0),
            (std::vector<std::string>{
                "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.k_proj",
                "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.gate_proj",
                "model.layers.0.mlp.up_proj", "model.layers.0.mlp.down_proj"}));
  EXPECT_EQ(linear_names(echo.random.spec, 1)[3], "model.layers.1.self_attn.o_proj");
}

// Every value of a block ends once, and values that exist together lie in different slots.
TEST(Mixer, ValuesEndAndShareNoMemoryBefore) {
  const EchoModel echo;
  for (int64_t layer = 0; layer < 2; ++layer) {
    const BlockSteps block = block_steps(echo.random.spec, layer);
    std::map<int, Value> held;  // by slot
    std::vector<int> ended(block.values.size());
    const auto write = [&](Value value) {
      const int slot = block.values[static_cast<size_t>(value)].slot;
      EXPECT_TRUE(held.emplace(slot, value).second) << "slot " << slot << " is taken";
      EXPECT_GE(block.slots.at(static_cast<size_t>(slot)), block.width(value));
    };
    for (const Step& step : block.steps) {
      if (const auto* s = std::get_if<NormStep>(&step.does); s && s->in != s->out) write(s->out);
      if (const auto* s = std::get_if<GatedStep>(&step.does)) write(s->out);
      if (const auto* s = std::get_if<MixStep>(&step.does)) std::ranges::for_each(s->out, write);
      if (const auto* s = std::get_if<LinearsStep>(&step.does)) {
        for (const LinearOutput& output : s->outputs) write(output.out);
      }
      for (const Value value : step.ends) {
        ++ended[static_cast<size_t>(value)];
        held.erase(block.values[static_cast<size_t>(value)].slot);
      }
    }
    EXPECT_TRUE(held.empty());
    EXPECT_EQ(ended[kStream], 0);
    EXPECT_TRUE(std::all_of(ended.begin() + 1, ended.end(), [](int n) { return n == 1; }));
  }
}

// What o_proj reads follows from what k_proj reads, sequence by sequence.
TEST(Mixer, ComputesBetweenItsLinearLayers) {
  const EchoModel echo;
  const BlockSteps block = block_steps(echo.random.spec, 0);
  std::map<Value, std::vector<float>> seen;
  std::vector<float> hidden(7 * 24);
  const std::vector<int32_t> ids = {1, 2, 3, 4, 5, 6, 7};
  echo.model.embed(ids, hidden);
  const std::vector<SequenceRows> sequences = {{0, 4, 0, nullptr}, {4, 3, 0, nullptr}};
  echo.model.run_block(*echo.model.load_block(0), sequences, hidden, [&](const Tapped& t) {
    EXPECT_TRUE(seen.try_emplace(t.value, t.x.data, t.x.data + t.x.rows * t.x.columns).second);
  });
  const auto k = product(seen.at(block.linears[1].input),
                         echo.random.tensors.at("model.layers.0.self_attn.k_proj.weight"), 16);
  const auto& decay = echo.random.tensors.at("model.layers.0.self_attn.decay");
  const auto& out = seen.at(block.linears[2].input);
  ASSERT_EQ(out.size(), k.size());
  for (size_t r = 0; r < 7; ++r) {
    for (size_t j = 0; j < 12; ++j) {
      const float before = r == 0 || r == 4 ? 0 : k[(r - 1) * 12 + j];
      EXPECT_NEAR(out[r * 12 + j], k[r * 12 + j] + decay[j] * before, 1e-4);
    }
  }
}

// Token by token through the states as all at once.
TEST(Mixer, GeneratesThroughItsState) {
  const EchoModel echo;
  const std::vector<std::vector<int32_t>> prompts = {{3, 1, 4, 1, 5}, {9, 2, 6}};
  const auto generated = generate(echo.model, prompts, {.max_new_tokens = 20});
  for (size_t p = 0; p < prompts.size(); ++p) {
    std::vector<int32_t> ids = prompts[p];
    ASSERT_EQ(generated[p].size(), 20u);
    for (const int32_t token : generated[p]) {
      const auto hidden = run_layers(echo.model, make_batch(std::span(&ids, 1)), {});
      const std::vector<int64_t> last = {static_cast<int64_t>(ids.size()) - 1};
      std::vector<float> logits(50);
      echo.model.head(hidden, last, logits);
      EXPECT_EQ(std::ranges::max_element(logits) - logits.begin(), token);
      ids.push_back(token);
    }
  }
}

TEST(Mixer, ItsOwnTensorsAreChecked) {
  EchoModel echo;
  echo.random.add("model.layers.0.self_attn.decay", {13}, 1);
  echo.random.write();
  const Checkpoint checkpoint = Checkpoint::open(echo.random.dir.path);
  EXPECT_THROW(Transformer(checkpoint, echo.random.spec, *echo.backend, echo.threads), Error);
}

void expect_said(const std::function<void()>& run, const std::string& said) {
  try {
    run();
    FAIL() << "nothing was refused: " << said;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kInput);
    EXPECT_NE(std::string(e.what()).find(said), std::string::npos) << e.what();
  }
}

TEST(Mixer, ItsOwnTensorsMustBeFinite) {
  EchoModel echo;
  echo.random.tensors.at("model.layers.0.self_attn.decay")[3] = NAN;
  echo.random.write();
  const Checkpoint checkpoint = Checkpoint::open(echo.random.dir.path);
  const Transformer model(checkpoint, echo.random.spec, *echo.backend, echo.threads);
  expect_said([&] { model.load_block(0); }, "self_attn.decay");
}

// The first layer of both has a recurrence.
TEST(Mixer, AStateThatIsNotFiniteIsRefused) {
  for (const char* name : {"qwen3_5", "nemotron_h"}) {
    const TestModel m(std::filesystem::path(LEWIS_TEST_DATA "/golden/families") / name);
    const Transformer& model = m.transformer;
    std::vector<float> hidden(static_cast<size_t>(5 * model.spec().hidden), NAN);
    const std::vector<SequenceRows> sequences = {{0, 5, 0, nullptr}};
    expect_said([&] { model.run_block(*model.load_block(0), sequences, hidden); }, "layer 0 ");
  }
}

}  // namespace
}  // namespace lewis
