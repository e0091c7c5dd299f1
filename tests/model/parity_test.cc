// The forward pass against transformers (tests/data/golden/families and zoo) and against a plain
// version in double precision for settings that are not in those files.
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <numeric>

#include "base/error.h"
#include "golden_file.h"
#include "random_model.h"
#include "test_model.h"

namespace lewis {
namespace {

std::vector<float> all_logits(const Transformer& model,
                              std::span<const std::vector<int32_t>> sequences) {
  const TokenBatch batch = make_batch(sequences);
  const std::vector<float> hidden = run_layers(model, batch, {});
  std::vector<int64_t> rows(batch.ids.size());
  std::iota(rows.begin(), rows.end(), int64_t{0});
  std::vector<float> logits(rows.size() * static_cast<size_t>(model.spec().vocab));
  model.head(hidden, rows, logits);
  return logits;
}

template <typename T>
double largest_difference(std::span<const float> a, std::span<const T> b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  return largest;
}

// Every folder under families/ and variants/: random checkpoints and what transformers computes.
class FamilyParity : public testing::TestWithParam<std::filesystem::path> {};

TEST_P(FamilyParity, Logits) {
  const SafetensorsFile golden(GetParam() / "golden.safetensors");
  const TestModel model(GetParam());
  const auto expected = read_tensor<float>(golden, "logits");
  const double largest =
      largest_difference<float>(all_logits(model.transformer, golden_sequences(golden)), expected);
  EXPECT_LT(largest, std::max(1e-4, 2 * float32_noise(GetParam(), "logits")));
  std::printf("%s: largest difference of a logit %.2g\n", GetParam().filename().c_str(), largest);
}

TEST_P(FamilyParity, GreedyThroughTheCache) {
  const SafetensorsFile golden(GetParam() / "golden.safetensors");
  const TestModel model(GetParam());
  const auto expected = read_tensor<int64_t>(golden, "greedy_ids");
  std::vector<int32_t> prompt = golden_sequences(golden)[0];
  prompt.resize(16);
  const auto found = generate(model.transformer, std::span(&prompt, 1),
                              {.max_new_tokens = static_cast<int64_t>(expected.size())});
  EXPECT_EQ(std::vector<int64_t>(found[0].begin(), found[0].end()), expected);
}

INSTANTIATE_TEST_SUITE_P(All, FamilyParity, testing::ValuesIn(golden_families()),
                         [](const auto& folder) { return folder.param.filename().string(); });

TEST(Parity, ZooLogits) {
  const SafetensorsFile golden(LEWIS_TEST_DATA "/golden/zoo/logits.safetensors");
  const auto wide = read_tensor<int64_t>(golden, "input_ids");
  const std::vector<std::vector<int32_t>> sequence = {{wide.begin(), wide.end()}};
  for (const std::string name : {"base", "math", "code"}) {
    const TestModel model(LEWIS_DEMO "/models/" + name);
    const double largest = largest_difference<float>(all_logits(model.transformer, sequence),
                                                     read_tensor<float>(golden, "logits." + name));
    EXPECT_LT(largest, 1e-4);
    std::printf("zoo %s: largest difference of a logit %.2g\n", name.c_str(), largest);
  }
}

// transformers' greedy ids of the first prompt: 96 new tokens, until id 0. (All 25: tests/eval.)
TEST(Parity, ZooGreedyIds) {
  const Json golden = read_json(LEWIS_TEST_DATA "/golden/zoo/golden.json");
  const std::vector<int32_t> prompt = golden["token_ids"]["math_prompt_0"];
  for (const std::string name : {"base", "math", "code"}) {
    const TestModel model(LEWIS_DEMO "/models/" + name);
    const auto found =
        generate(model.transformer, std::span(&prompt, 1), {.max_new_tokens = 96, .stop_ids = {0}});
    std::vector<int32_t> expected = golden[name]["math_greedy_ids"][0];
    if (!expected.empty() && expected.back() == 0) expected.pop_back();
    EXPECT_EQ(found[0], expected) << name;
  }
}

// ---- a plain forward pass ----

using Matrix = std::vector<std::vector<double>>;  // rows

class PlainModel {
 public:
  PlainModel(const RandomModel& model) : m_(model), spec_(model.spec) {}

  Matrix logits(const std::vector<int32_t>& ids) const {
    Matrix hidden;
    for (const int32_t id : ids)
      hidden.push_back(row("model.embed_tokens.weight", id, spec_.hidden));
    for (int64_t l = 0; l < spec_.layers; ++l) block(fmt::format("model.layers.{}.", l), hidden);
    Matrix out;
    const std::string head =
        m_.tensors.contains("lm_head.weight") ? "lm_head" : "model.embed_tokens";
    for (const auto& h : hidden) out.push_back(linear(head, norm("model.norm", h)));
    return out;
  }

 private:
  std::vector<double> row(const std::string& name, int64_t r, int64_t width) const {
    const auto& values = m_.tensors.at(name);
    return {values.begin() + r * width, values.begin() + (r + 1) * width};
  }

  std::vector<double> linear(const std::string& name, const std::vector<double>& x) const {
    const auto& w = m_.tensors.at(name + ".weight");
    std::vector<double> y(w.size() / x.size());
    for (size_t o = 0; o < y.size(); ++o) {
      y[o] = m_.tensors.contains(name + ".bias")
                 ? static_cast<double>(m_.tensors.at(name + ".bias")[o])
                 : 0.0;
      for (size_t i = 0; i < x.size(); ++i) y[o] += static_cast<double>(w[o * x.size() + i]) * x[i];
    }
    return y;
  }

  std::vector<double> norm(const std::string& name, std::vector<double> x) const {
    double squares = 0;
    for (const double v : x) squares += v * v;
    const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size()) +
                                       static_cast<double>(spec_.norm.epsilon));
    for (size_t i = 0; i < x.size(); ++i)
      x[i] *= scale * static_cast<double>(m_.tensors.at(name + ".weight")[i]);
    return x;
  }

  void rotate(std::vector<double>& x, size_t position) const {
    const auto d = static_cast<size_t>(spec_.head_dim);
    for (size_t head = 0; head < x.size(); head += d) {
      for (size_t i = 0; i < d / 2; ++i) {
        const double angle = static_cast<double>(position) *
                             static_cast<double>(spec_.ropes[0].inverse_frequency[i]);
        const double a = x[head + i], b = x[head + i + d / 2];
        x[head + i] = a * std::cos(angle) - b * std::sin(angle);
        x[head + i + d / 2] = b * std::cos(angle) + a * std::sin(angle);
      }
    }
  }

  void block(const std::string& prefix, Matrix& hidden) const {
    Matrix q, k, v;
    for (size_t t = 0; t < hidden.size(); ++t) {
      const auto x = norm(prefix + "input_layernorm", hidden[t]);
      q.push_back(linear(prefix + "self_attn.q_proj", x));
      k.push_back(linear(prefix + "self_attn.k_proj", x));
      v.push_back(linear(prefix + "self_attn.v_proj", x));
      rotate(q[t], t);
      rotate(k[t], t);
    }
    for (size_t t = 0; t < hidden.size(); ++t) {
      const auto o = linear(prefix + "self_attn.o_proj", attend(q[t], k, v, t));
      for (size_t i = 0; i < o.size(); ++i) hidden[t][i] += o[i];
      const auto x = norm(prefix + "post_attention_layernorm", hidden[t]);
      auto gate = linear(prefix + "mlp.gate_proj", x);
      const auto up = linear(prefix + "mlp.up_proj", x);
      for (size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1 + std::exp(-gate[i]));
      const auto down = linear(prefix + "mlp.down_proj", gate);
      for (size_t i = 0; i < down.size(); ++i) hidden[t][i] += down[i];
    }
  }

  std::vector<double> attend(const std::vector<double>& q, const Matrix& k, const Matrix& v,
                             size_t t) const {
    const auto d = static_cast<size_t>(spec_.head_dim);
    const auto group = static_cast<size_t>(spec_.heads / spec_.kv_heads);
    std::vector<double> out(q.size());
    for (size_t h = 0; h < static_cast<size_t>(spec_.heads); ++h) {
      const size_t kv = h / group * d;
      std::vector<double> share(t + 1);
      double sum = 0;
      for (size_t s = 0; s <= t; ++s) {
        double dot = 0;
        for (size_t i = 0; i < d; ++i) dot += q[h * d + i] * k[s][kv + i];
        sum += share[s] = std::exp(dot / std::sqrt(static_cast<double>(d)));
      }
      for (size_t s = 0; s <= t; ++s) {
        for (size_t i = 0; i < d; ++i) out[h * d + i] += share[s] / sum * v[s][kv + i];
      }
    }
    return out;
  }

  const RandomModel& m_;
  const ModelSpec& spec_;
};

TEST(Parity, OtherSettingsAgainstThePlainVersion) {
  const std::vector<Json> settings = {
      {},
      {{"attention_bias", true}, {"mlp_bias", true}},
      {{"tie_word_embeddings", true}},
      {{"num_attention_heads", 6}, {"num_key_value_heads", 2}, {"head_dim", 6}},
      {{"num_attention_heads", 3},
       {"num_key_value_heads", 1},
       {"head_dim", 20},
       {"intermediate_size", 33}},
      {{"rope_scaling", {{"type", "linear"}, {"factor", 3.0}}}, {"rope_theta", 500.0}},
      {{"rms_norm_eps", 0.01}},
  };
  const std::vector<int32_t> ids = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4};
  for (const Json& setting : settings) {
    const RandomModel random(setting);
    const TestModel model(random.dir.path);
    const Matrix expected = PlainModel(random).logits(ids);
    std::vector<double> flat;
    for (const auto& row : expected) flat.insert(flat.end(), row.begin(), row.end());
    EXPECT_LT((largest_difference<double>(all_logits(model.transformer, std::span(&ids, 1)), flat)),
              2e-4)
        << setting;
  }
}

}  // namespace
}  // namespace lewis
