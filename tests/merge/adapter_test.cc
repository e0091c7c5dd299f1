// LoRA adapters on a model, against PEFT's own merge (tests/data/golden/adapters) and against
// brute force in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <thread>

#include "base/error.h"
#include "base/json.h"
#include "golden_file.h"
#include "io/checkpoint.h"
#include "memory_source.h"
#include "merge/input_model.h"
#include "merge/sources/adapter_source.h"
#include "recipe/recipe.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = LEWIS_TEST_DATA "/golden/adapters";

class GoldenAdapter : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(
    Adapter, GoldenAdapter,
    testing::Values("llama_lora", "llama_rslora_patterns", "llama_dora", "llama_embedding_saved",
                    "llama_bias_only", "llama_bias_all", "llama_lora_bias", "gpt2_lora",
                    "gpt2_dora", "llama_tokens", "llama_tokens_by_module", "llama_regex",
                    "llama_layers", "llama_alllinear", "llama_exclude", "llama_rsdora",
                    "tied_saved", "tied_head", "tied_tokens", "gpt2_rslora", "qwen3moe_experts",
                    "qwen3moe_down", "qwen3moe_router", "qwen3moe_onebyone", "gptoss_experts",
                    "gptoss_attention", "qwen35moe_experts", "lfm2_hybrid", "gemma3_wrapped"),
    [](const auto& test) { return test.param; });

// Base and adapter; a tied model gets its head only where the adapter changes it.
std::shared_ptr<const TensorSource> adapted_golden(const std::string& base,
                                                   const fs::path& folder) {
  if (base != "tied")
    return adapt(std::make_shared<Checkpoint>(Checkpoint::open(kGolden / base)), folder).source;
  const std::string model = (kGolden / base).string() + "+" + folder.string();
  const Recipe recipe =
      parse_recipe("merge_method: passthrough\nmodels:\n- model: " + model + "\n", "recipe.yml");
  return open_input(recipe.models.at(0), {}).source;
}

// merged.safetensors has what PEFT's merge changes, or all tensors. What it does not have must be
// as in the base, to the bit.
TEST_P(GoldenAdapter, EqualsPeft) {
  const std::string name = GetParam().substr(0, GetParam().find('_'));
  const Checkpoint base = Checkpoint::open(kGolden / name);
  const auto ours = adapted_golden(name, kGolden / GetParam());
  const SafetensorsFile theirs(kGolden / GetParam() / "merged.safetensors");
  double largest = 0;
  size_t compared = 0;
  for (const TensorInfo& info : ours->tensors()) {
    const bool merged = std::ranges::any_of(theirs.entries(),
                                            [&](const auto& entry) { return entry.info == info; });
    const auto expected =
        merged ? read_tensor<float>(theirs, info.name) : base.read_floats(base.get(info.name));
    const auto found = ours->read_floats(info);
    double size = 0;
    for (const float v : expected) size = std::max(size, std::abs(static_cast<double>(v)));
    ASSERT_EQ(found.size(), expected.size()) << info.name;
    for (size_t i = 0; i < found.size(); ++i) {
      const double difference =
          std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i]));
      ASSERT_LE(difference, merged ? 1e-6 * size : 0) << info.name << " at " << i;
      largest = std::max(largest, difference / size);
    }
    compared += merged ? 1 : 0;
  }
  EXPECT_EQ(compared, theirs.entries().size());
  EXPECT_GT(compared, 0u);
  std::printf("%s: largest difference %.2g of the largest entry\n", GetParam().c_str(), largest);
}

using Matrix = std::vector<float>;

// A base with one matrix "m.weight" and what an adapter folder needs.
struct Case {
  Shape shape;  // of the weight
  int64_t rank = 4;
  DType dtype = DType::kF32;
  bool columns = false;  // outputs are columns
  bool embedding = false, dora = false;
  double alpha = 6;
  Matrix weight, a, b, magnitude;  // a: [rank, in], b: [out, rank]

  int64_t in() const { return shape[columns ? 0 : 1]; }
  int64_t out() const { return shape[columns ? 1 : 0]; }

  void fill(uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const auto some = [&](int64_t n) {
      Matrix m(static_cast<size_t>(n));
      for (float& v : m) v = normal(random);
      return m;
    };
    weight = some(in() * out());
    a = some(rank * in());
    b = some(rank * out());
    magnitude = some(out());
    std::vector<std::byte> stored(weight.size() * dtype_size(dtype));
    narrow(weight, dtype, stored.data());
    widen(dtype, stored.data(), weight);
  }

  std::shared_ptr<const TensorSource> source(const fs::path& folder) const {
    auto base = std::make_shared<MemorySource>();
    base->add("m.weight", dtype, shape, weight);
    base->add("other", DType::kF32, {3}, {1, 2, 3});
    MemorySource adapter;
    const std::string m = "base_model.model.m.";
    adapter.add(m + (embedding ? "lora_embedding_A" : "lora_A.default.weight"), DType::kF32,
                {rank, in()}, a);
    adapter.add(m + (embedding ? "lora_embedding_B" : "lora_B.weight"), DType::kF32, {out(), rank},
                b);
    if (dora) adapter.add(m + "lora_magnitude_vector", DType::kF32, {out()}, magnitude);
    adapter.write(folder / "adapter_model.safetensors");
    std::ofstream(folder / "adapter_config.json")
        << Json{{"peft_type", "LORA"},
                {"r", rank},
                {"lora_alpha", alpha},
                {"use_dora", dora},
                {"fan_in_fan_out", columns && !embedding}};
    return adapt(base, folder).source;
  }

  // W' of every element in double, in the order of the weight.
  std::vector<double> brute_force() const {
    std::vector<double> all(weight.size());
    std::vector<double> norms(static_cast<size_t>(out()));
    const auto place = [&](int64_t o, int64_t i) {
      return static_cast<size_t>(columns ? i * out() + o : o * in() + i);
    };
    for (int64_t o = 0; o < out(); ++o) {
      for (int64_t i = 0; i < in(); ++i) {
        double sum = 0;
        for (int64_t k = 0; k < rank; ++k)
          sum += static_cast<double>(b[o * rank + k]) * static_cast<double>(a[k * in() + i]);
        double& w = all[place(o, i)];
        w = static_cast<double>(weight[place(o, i)]) + alpha / static_cast<double>(rank) * sum;
        norms[o] += w * w;
      }
      if (!dora) continue;
      for (int64_t i = 0; i < in(); ++i)
        all[place(o, i)] *= static_cast<double>(magnitude[o]) / std::sqrt(norms[o]);
    }
    return all;
  }
};

std::vector<float> read_range(const TensorSource& source, const TensorInfo& info, int64_t first,
                              size_t count) {
  std::vector<std::byte> bytes(count * dtype_size(info.dtype));
  source.read(info, first, bytes);
  std::vector<float> values(count);
  widen(info.dtype, bytes.data(), values);
  return values;
}

void expect_brute_force(const Case& c) {
  const TempDir dir;
  const auto source = c.source(dir.path);
  const TensorInfo& info = source->get("m.weight");
  const auto found = source->read_floats(info);
  const auto expected = c.brute_force();
  for (size_t i = 0; i < found.size(); ++i) {
    double allowed = 1e-6 * (10 + std::abs(expected[i])) * static_cast<double>(c.rank);
    if (c.dtype == DType::kBF16) allowed += std::ldexp(std::abs(expected[i]), -8);
    if (c.dtype == DType::kF16) allowed += std::ldexp(std::abs(expected[i]), -11);
    ASSERT_NEAR(static_cast<double>(found[i]), expected[i], allowed)
        << to_string(c.shape) << " rank " << c.rank << " at " << i;
  }
  // Any range gives the same bits.
  std::mt19937 random(5);
  for (int i = 0; i < 20; ++i) {
    const size_t first = random() % found.size(), count = random() % (found.size() - first + 1);
    const auto part = read_range(*source, info, static_cast<int64_t>(first), count);
    for (size_t j = 0; j < count; ++j) ASSERT_EQ(part[j], found[first + j]) << first << "+" << j;
  }
}

TEST(Adapter, EqualsBruteForceForEveryForm) {
  uint32_t seed = 0;
  for (const Shape& shape :
       {Shape{1, 1}, Shape{1, 37}, Shape{19, 1}, Shape{70, 13}, Shape{5, 1100}, Shape{131, 515}}) {
    for (const int64_t rank : {1, 8, 11}) {
      for (const bool dora : {false, true}) {
        for (const int form : {0, 1, 2}) {
          Case c{.shape = shape,
                 .rank = rank,
                 .columns = form > 0,
                 .embedding = form == 2,
                 .dora = dora};
          c.fill(++seed);
          expect_brute_force(c);
        }
      }
    }
  }
}

// mlx-lm keeps A as [in, r] and B as [r, out], and adds scale (A B)^T.
TEST(Adapter, OfMlxEqualsThatOfPeft) {
  for (const bool dora : {false, true}) {
    Case c{.shape = {23, 17}, .rank = 5, .dora = dora};
    c.fill(8);
    const auto turned = [](const Matrix& m, size_t rows) {
      Matrix t;
      for (size_t column = 0; column < m.size() / rows; ++column) {
        for (size_t row = 0; row < rows; ++row) t.push_back(m[row * (m.size() / rows) + column]);
      }
      return t;
    };
    const TempDir dir;
    MemorySource adapter;
    adapter.add("m.lora_a", DType::kF32, {c.in(), c.rank}, turned(c.a, 5));
    adapter.add("m.lora_b", DType::kF32, {c.rank, c.out()}, turned(c.b, 23));
    if (dora) adapter.add("m.m", DType::kF32, {c.out()}, c.magnitude);
    adapter.write(dir.path / "adapters.safetensors");
    std::ofstream(dir.path / "adapter_config.json")
        << Json{{"fine_tune_type", dora ? "dora" : "lora"},
                {"num_layers", 16},
                {"learning_rate", 1e-5},
                {"lora_parameters", {{"rank", c.rank}, {"scale", c.alpha / 5}, {"dropout", 0.0}}}};
    auto base = std::make_shared<MemorySource>();
    base->add("m.weight", c.dtype, c.shape, c.weight);
    const auto found = adapt(base, dir.path).source->read_floats(base->get("m.weight"));
    const auto expected = c.brute_force();
    for (size_t i = 0; i < found.size(); ++i)
      ASSERT_NEAR(static_cast<double>(found[i]), expected[i], 1e-4) << i;
  }
}

// kohya's names have underscores for dots and an alpha per module, in its own tensor.
TEST(Adapter, NamesWithUnderscoresAndAlphas) {
  const TempDir dir;
  const Matrix a = {1, 2, 3, -1, 0, 1}, b = {1, 0, 2, -1};  // [2, 3], [2, 2]
  const auto base = std::make_shared<MemorySource>();
  MemorySource file;
  const std::vector<std::pair<std::string, std::string>> modules = {
      {"model.layers.0.self_attn.q_proj", "lora_te_model_layers_0_self_attn_q_proj"},
      {"model.layers.0.mlp.up_proj", "lora_unet_layers_0_mlp_up_proj"},
      {"model.layers.1.self_attn.q_proj", "lycoris_model_layers_1_self_attn_q_proj"}};
  for (size_t i = 0; i < modules.size(); ++i) {
    base->add(modules[i].first + ".weight", DType::kF32, {2, 3}, Matrix(6, 10));
    file.add(modules[i].second + ".lora_down.weight", DType::kF32, {2, 3}, a);
    file.add(modules[i].second + ".lora_up.weight", DType::kF32, {2, 2}, b);
    // The last module has no alpha of its own.
    if (i < 2) file.add(modules[i].second + ".alpha", DType::kF32, {}, Matrix{float(i) + 1});
  }
  file.write(dir.path / "adapter_model.safetensors");
  std::ofstream(dir.path / "adapter_config.json")
      << Json{{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 6}};
  const auto ours = adapt(base, dir.path).source;
  for (size_t i = 0; i < modules.size(); ++i) {
    const double scale = i < 2 ? (double(i) + 1) / 2 : 3;
    const Matrix found = ours->read_floats(ours->get(modules[i].first + ".weight"));
    for (size_t o = 0; o < 2; ++o) {
      for (size_t c = 0; c < 3; ++c) {
        const double product =
            double(b[2 * o]) * double(a[c]) + double(b[2 * o + 1]) * double(a[3 + c]);
        EXPECT_NEAR(found[3 * o + c], 10 + scale * product, 1e-5) << modules[i].first;
      }
    }
  }
  // Two modules with the same underscores are not told apart.
  base->add("model.layers.0.self_attn_q_proj.weight", DType::kF32, {2, 3}, Matrix(6, 10));
  EXPECT_THROW(adapt(base, dir.path), Error);
}

// An embedding [7, 3] of which tokens are replaced; any range gives the same bits.
TEST(Adapter, TrainedTokensReplaceTheirRows) {
  const auto adapted = [](const Json& tokens, Shape rows, const TempDir& dir) {
    auto base = std::make_shared<MemorySource>();
    Matrix weight(21);
    for (size_t i = 0; i < weight.size(); ++i) weight[i] = static_cast<float>(i);
    base->add("model.embed_tokens.weight", DType::kBF16, {7, 3}, weight);
    MemorySource adapter;
    Matrix values(static_cast<size_t>(element_count(rows)));
    for (size_t i = 0; i < values.size(); ++i) values[i] = -1 - static_cast<float>(i);
    adapter.add("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta",
                DType::kF32, rows, values);
    adapter.write(dir.path / "adapter_model.safetensors");
    std::ofstream(dir.path / "adapter_config.json") << Json{
        {"peft_type", "LORA"}, {"r", 4}, {"lora_alpha", 4}, {"trainable_token_indices", tokens}};
    return adapt(base, dir.path).source;
  };
  const TempDir dir;
  const auto source = adapted({6, 1}, {2, 3}, dir);
  const TensorInfo& info = source->get("model.embed_tokens.weight");
  const Matrix expected = {0,  1,  2,  -4, -5, -6, 6,  7,  8,  9, 10,
                           11, 12, 13, 14, 15, 16, 17, -1, -2, -3};
  EXPECT_EQ(source->read_floats(info), expected);
  for (int64_t first = 0; first < 21; ++first) {
    for (size_t count = 0; first + static_cast<int64_t>(count) <= 21; ++count) {
      const auto part = read_range(*source, info, first, count);
      EXPECT_TRUE(std::equal(part.begin(), part.end(), expected.begin() + first));
    }
  }
  const Json wrong[] = {Json{7, 1},
                        Json{1, 1},
                        Json{1},
                        Json{-1, 2},
                        Json("all"),
                        Json{{"lm_head", {1, 2}}},
                        Json{{"embed_tokens", {1, 2}}, {"lm_head", {3}}}};
  for (const Json& tokens : wrong) EXPECT_THROW(adapted(tokens, {2, 3}, dir), Error) << tokens;
}

TEST(Adapter, RoundsOnceToHalfPrecision) {
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    for (const bool dora : {false, true}) {
      Case c{.shape = {33, 47}, .dtype = dtype, .dora = dora};
      c.fill(1);
      expect_brute_force(c);
    }
  }
}

TEST(Adapter, ManyThreadsReadTheSame) {
  Case c{.shape = {300, 200}, .columns = true, .dora = true};
  c.fill(2);
  const TempDir dir;
  const auto source = c.source(dir.path);
  std::vector<std::vector<float>> found(4);
  std::vector<std::thread> threads;
  for (auto& values : found)
    threads.emplace_back([&] { values = source->read_floats(source->get("m.weight")); });
  for (auto& thread : threads) thread.join();
  for (const auto& values : found) EXPECT_EQ(values, found[0]);
  EXPECT_EQ(source->read_floats(source->get("other")), (Matrix{1, 2, 3}));
}

TEST(Adapter, ANormOfZeroIsNamed) {
  Case c{.shape = {2, 3}, .dora = true};
  c.fill(3);
  std::fill_n(c.weight.begin(), 3, 0.0f);
  std::fill(c.b.begin(), c.b.end(), 0.0f);
  const TempDir dir;
  const auto source = c.source(dir.path);
  EXPECT_EQ(read_range(*source, source->get("m.weight"), 3, 3).size(), 3u);
  try {
    source->read_floats(source->get("m.weight"));
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("m.weight: DoRA divides by the norm of output 0"),
              std::string::npos)
        << e.what();
  }
}

TEST(Adapter, WholeTensorsAreRoundedToTheTypeOfTheBase) {
  const TempDir dir;
  auto base = std::make_shared<MemorySource>();
  base->add("head.weight", DType::kBF16, {2, 2}, {1, 2, 3, 4});
  base->add("embed.weight", DType::kBF16, {2, 1}, {1, 2});
  base->add("norm.bias", DType::kF32, {2}, {0, 0});
  MemorySource adapter;
  adapter.add("base_model.model.head.weight", DType::kF32, {2, 2}, {1.001f, -5, 6, 7});
  adapter.add("base_model.model.norm.base_layer.bias", DType::kF32, {2}, {8, 9});
  // The base layer of an embedding that was resized, and LoRA on top of it.
  adapter.add("base_model.model.embed.base_layer.weight", DType::kF32, {2, 1}, {16, 32});
  adapter.add("base_model.model.embed.lora_embedding_A", DType::kF32, {1, 2}, {1, 2});
  adapter.add("base_model.model.embed.lora_embedding_B", DType::kF32, {1, 1}, {3});
  adapter.write(dir.path / "adapter_model.safetensors");
  std::ofstream(dir.path / "adapter_config.json")
      << R"({"peft_type": "LORA", "r": 1, "lora_alpha": 2, "bias": "all"})";
  const auto source = adapt(base, dir.path).source;
  EXPECT_EQ(source->read_floats(source->get("head.weight")), (Matrix{1, -5, 6, 7}));
  EXPECT_EQ(read_range(*source, source->get("head.weight"), 1, 2), (Matrix{-5, 6}));
  EXPECT_EQ(source->read_floats(source->get("norm.bias")), (Matrix{8, 9}));
  EXPECT_EQ(source->read_floats(source->get("embed.weight")), (Matrix{22, 44}));
}

// Names of patterns as PEFT matches them: the end of the module's name behind a dot, or all of it.
TEST(Adapter, PatternsSayRankAndAlphaOfAModule) {
  const TempDir dir;
  auto base = std::make_shared<MemorySource>();
  MemorySource adapter;
  const auto add = [&](const std::string& module, int64_t rank) {
    base->add(module + ".weight", DType::kF32, {1, 1}, {0});
    adapter.add(module + ".lora_A.weight", DType::kF32, {rank, 1}, Matrix(rank, 1.0f));
    adapter.add(module + ".lora_B.weight", DType::kF32, {1, rank}, Matrix(rank, 1.0f));
  };
  add("h.0.q", 2);
  add("h.1.q", 4);
  add("h.1.xq", 2);
  add("h.11.k", 9);
  adapter.write(dir.path / "adapter_model.safetensors");
  std::ofstream(dir.path / "adapter_config.json") << R"json({"peft_type": "LORA", "r": 2,
      "lora_alpha": 6, "use_rslora": true, "rank_pattern": {"1.q": 4, "h\\.\\d+\\.k": 9},
      "alpha_pattern": {"^h.0.q": 10, "q": 20, "h.0.(q|k)": 1000}})json";
  const auto source = adapt(base, dir.path).source;
  const auto value = [&](const char* name) { return source->read_floats(source->get(name))[0]; };
  EXPECT_FLOAT_EQ(value("h.0.q.weight"), 10 / std::sqrt(2.0f) * 2);
  EXPECT_FLOAT_EQ(value("h.1.q.weight"), 20 / std::sqrt(4.0f) * 4);
  EXPECT_FLOAT_EQ(value("h.1.xq.weight"), 6 / std::sqrt(2.0f) * 2);
  EXPECT_FLOAT_EQ(value("h.11.k.weight"), 6 / std::sqrt(9.0f) * 9);
}

TEST(Adapter, FingerprintChangesWithTheFiles) {
  const TempDir dir;
  Case c{.shape = {3, 4}};
  c.fill(4);
  c.source(dir.path);
  const std::string before = adapter_fingerprint(dir.path);
  EXPECT_EQ(before.size(), 64u);
  EXPECT_EQ(adapter_fingerprint(dir.path), before);
  c.alpha = 7;
  c.source(dir.path);
  EXPECT_NE(adapter_fingerprint(dir.path), before);
}

// A refused adapter: a change to a good one, and a part of the message.
struct Refusal {
  const char* name;
  std::function<void(Json& config, MemorySource& adapter, MemorySource& base)> spoil;
  const char* says;
};

void expect_refused(const Refusal& refusal) {
  const TempDir dir;
  auto base = std::make_shared<MemorySource>();
  base->add("m.weight", DType::kF32, {3, 5}, Matrix(15, 1.0f));
  base->add("n.weight", DType::kF32, {3, 5}, Matrix(15, 1.0f));
  base->add("conv.weight", DType::kF32, {2, 2, 1}, Matrix(4, 1.0f));
  base->add("ids.weight", DType::kI32, {2, 2}, Matrix(4, 1.0f));
  MemorySource adapter;
  adapter.add("base_model.model.m.lora_A.weight", DType::kF32, {2, 5}, Matrix(10, 1.0f));
  adapter.add("base_model.model.m.lora_B.weight", DType::kF32, {3, 2}, Matrix(6, 1.0f));
  Json config{{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 4}};
  refusal.spoil(config, adapter, *base);
  adapter.write(dir.path / "adapter_model.safetensors");
  std::ofstream(dir.path / "adapter_config.json") << config;
  try {
    adapt(base, dir.path);
    FAIL() << refusal.name;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kInput) << refusal.name;
    const std::string what = e.what();
    EXPECT_NE(what.find(refusal.says), std::string::npos) << refusal.name << ": " << what;
    EXPECT_TRUE(what.starts_with(dir.path.string() + "/adapter_")) << what;
    EXPECT_EQ(what.find('\n'), std::string::npos) << what;
  }
}

Refusal key(const char* name, Json value, const char* says) {
  return {name, [=](Json& config, auto&, auto&) { config[name] = value; }, says};
}

Refusal tensor(const char* name, DType dtype, Shape shape, const char* says, float value = 1) {
  return {name,
          [=](Json&, MemorySource& adapter, auto&) {
            adapter.remove(name);
            adapter.add(name, dtype, shape,
                        Matrix(static_cast<size_t>(element_count(shape)), value));
          },
          says};
}

TEST(Adapter, RefusesKeysThatItDoesNotKnow) {
  for (const Refusal& refusal : {
           key("peft_type", "LOHA", "peft_type is \"LOHA\", expected \"LORA\""),
           key("peft_type", nullptr, "peft_type is null"),
           key("use_qalora", true, "use_qalora is true: this variant"),
           key("layer_replication", {{0, 4}, {2, 5}}, "layer_replication"),
           key("trainable_token_indices", {1, 2}, "trainable_token_indices"),
           key("alora_invocation_tokens", {1, 2}, "alora_invocation_tokens"),
           key("arrow_config", {{"top_k", 2}}, "arrow_config"),
           key("kasa_config", {{"beta", 1}}, "kasa_config"),
           key("use_something_new", 1, "use_something_new is 1"),
           key("init_lora_weights", "pissa_niter_4", "init_lora_weights is \"pissa_niter_4\""),
           key("init_lora_weights", "OLoRA", "init_lora_weights is \"OLoRA\""),
           key("init_lora_weights", "new", "init_lora_weights is \"new\", which is not known"),
           key("r", 0, "r is 0, expected a positive integer"),
           key("r", 2.5, "r is 2.5"),
           key("lora_alpha", "16", "lora_alpha is \"16\", expected a number"),
           key("use_rslora", 1, "use_rslora is 1, expected true or false"),
           key("rank_pattern", {{"q", -1}}, "rank_pattern.q is -1"),
           key("rank_pattern", {{"(q", 1}}, "rank_pattern: '(q' is not a regular expression"),
           key("alpha_pattern", {{"q\\Z", 1}}, "alpha_pattern: 'q\\Z' has an escape"),
           key("use_dora", true, "m.lora_A.weight has no m.lora_magnitude_vector beside it"),
           key("lora_bias", true, "m.lora_A.weight has no m.lora_B.bias beside it"),
           key("fan_in_fan_out", true, "m.lora_A.weight is [2, 5], expected [2, 3]"),
           key("r", 4, "m.lora_A.weight has rank 2, expected 4 (r and rank_pattern of "),
           key("target_modules", {"m", "n"},
               "target_modules names n, and memory has n.weight, but "),
           Refusal{"no alpha", [](Json&c, auto&, auto&) { c.erase("lora_alpha"); },
                   "lora_alpha is missing"},
       }) {
    expect_refused(refusal);
  }
}

TEST(Adapter, RefusesTensorsThatDoNotFit) {
  const std::string p = "base_model.model.";
  for (const Refusal& refusal : {
           tensor("base_model.model.m.lora_A.weight", DType::kF32, {2, 6},
                  "m.lora_A.weight is [2, 6], expected [2, 5] (r and m.weight of [3, 5])"),
           tensor("base_model.model.m.lora_A.weight", DType::kF32, {2, 5, 1, 1}, "expected [2, 5]"),
           tensor("base_model.model.m.lora_B.weight", DType::kF32, {2, 3}, "expected [3, 2]"),
           tensor("base_model.model.m.lora_B.weight", DType::kI32, {3, 2}, "is I32, expected F32"),
           tensor("base_model.model.m.lora_B.weight", DType::kF32, {3, 2}, "not finite", NAN),
           tensor("base_model.model.n.lora_A.weight", DType::kF32, {2, 5},
                  "n.lora_A.weight has no lora_B beside it"),
           tensor("base_model.model.n.lora_embedding_B", DType::kF32, {2, 5},
                  "n.lora_embedding_B has no lora_embedding_A beside it"),
           tensor("base_model.model.n.lora_B.bias", DType::kF32, {3}, "has no lora_A beside it"),
           tensor("base_model.model.m.lora_B.bias", DType::kF32, {3},
                  "m.lora_B.bias is not used: lora_bias is not set"),
           tensor("base_model.model.m.lora_magnitude_vector", DType::kF32, {3},
                  "m.lora_magnitude_vector is not used: use_dora is not set"),
           tensor("base_model.model.m.lora_diag", DType::kF32, {2}, "is of a kind that is not"),
           tensor("base_model.model.m.lora_A.default.weight", DType::kF32, {2, 5}, "says again"),
           tensor("base_model.model.x.weight", DType::kF32, {2},
                  "x.weight has nothing to change: memory has no tensor x.weight"),
           tensor("base_model.model.n.weight", DType::kF32, {5, 3}, "is [5, 3], but n.weight"),
           tensor("base_model.model.ids.weight", DType::kF32, {2, 2}, "is F32, but ids.weight"),
           Refusal{"module",
                   [](Json&, MemorySource&a, MemorySource&b) {
                     a.add("base_model.model.y.lora_A.weight", DType::kF32, {2, 5}, Matrix(10));
                     a.add("base_model.model.y.lora_B.weight", DType::kF32, {3, 2}, Matrix(6));
                     b.add("model.y.weight", DType::kF32, {3, 5}, Matrix(15));
                     b.add("transformer.y.weight", DType::kF32, {3, 5}, Matrix(15));  // which one?
                   },
                   "y.lora_A.weight has nothing to change: memory has no tensor y.weight"},
           Refusal{
               "near",
               [](Json&, MemorySource&a, MemorySource&) {
                 for (const char* module : {"mm", "far.away"}) {
                   a.add(fmt::format("{}.lora_A.weight", module), DType::kF32, {2, 5}, Matrix(10));
                   a.add(fmt::format("{}.lora_B.weight", module), DType::kF32, {3, 2}, Matrix(6));
                 }
               },
               "far.away.lora_A.weight has nothing to change: memory has no tensor "
               "far.away.weight; the nearest is "},
           Refusal{
               "others",
               [](Json&, MemorySource&a, MemorySource&) {
                 for (const char* module : {"mm", "z.q"}) {
                   a.add(fmt::format("{}.lora_A.weight", module), DType::kF32, {2, 5}, Matrix(10));
                   a.add(fmt::format("{}.lora_B.weight", module), DType::kF32, {3, 2}, Matrix(6));
                 }
               },
               "the nearest is m.weight; 1 other module of the adapter is not in it either: z.q"},
           Refusal{"conv",
                   [](Json&, MemorySource&a, MemorySource&) {
                     a.add("conv.lora_A.weight", DType::kF32, {2, 2, 1}, Matrix(4));
                     a.add("conv.lora_B.weight", DType::kF32, {2, 2, 1}, Matrix(4));
                   },
                   "conv.lora_A.weight changes conv.weight, which is [2, 2, 1]: only matrices"},
           Refusal{"ids",
                   [](Json&, MemorySource&a, MemorySource&) {
                     a.add("ids.lora_A.weight", DType::kF32, {2, 2}, Matrix(4));
                     a.add("ids.lora_B.weight", DType::kF32, {2, 2}, Matrix(4));
                   },
                   "ids.lora_A.weight changes ids.weight of memory, which is I32"},
           Refusal{"empty", [](Json&, MemorySource&a, MemorySource&) { a = MemorySource(); },
                   "holds no tensors"},
       }) {
    expect_refused(refusal);
  }
}

// Layers of target_modules that have no keys are said, unless the configuration leaves them out.
TEST(Adapter, NotesLayersWithoutKeys) {
  for (const bool told : {true, false}) {
    const TempDir dir;
    MemorySource adapter, base;
    for (const char* name : {"a.q.weight", "b.q.weight", "c.q.weight"})
      base.add(name, DType::kF32, {3, 5}, Matrix(15));
    adapter.add("b.q.lora_A.weight", DType::kF32, {2, 5}, Matrix(10));
    adapter.add("b.q.lora_B.weight", DType::kF32, {3, 2}, Matrix(6));
    adapter.write(dir.path / "adapter_model.safetensors");
    Json config = {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 2}, {"target_modules", {"q"}}};
    if (!told) config["layers_to_transform"] = {1};
    std::ofstream(dir.path / "adapter_config.json") << config;
    const auto notes = adapt(std::make_shared<MemorySource>(base), dir.path).notes;
    ASSERT_EQ(notes.size(), told ? 1u : 0u);
    if (told) {
      EXPECT_NE(notes[0].find("keys for 1 of the 3 modules q of the base: a.q.weight and 1 more"),
                std::string::npos)
          << notes[0];
    }
  }
}

TEST(Adapter, NeverOpensAPickle) {
  const TempDir dir;
  const auto message = [&] {
    try {
      adapt(std::make_shared<MemorySource>(), dir.path);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_NE(message().find("holds no adapter_config.json"), std::string::npos) << message();
  std::ofstream(dir.path / "adapter_config.json") << "{}";
  EXPECT_NE(message().find("adapter_model.safetensors: is missing"), std::string::npos);
  std::ofstream(dir.path / "adapter_model.bin") << "anything";
  EXPECT_NE(message().find("adapter_model.bin: a pickle can run any code"), std::string::npos);
  EXPECT_NE(message().find("weights_only=True"), std::string::npos);
}

// Factors that are read with the tensor that they change.

constexpr int64_t kOut = 6, kIn = 40, kRank = 3;

std::string module_name(int i) { return "m" + std::to_string(i); }

// A base of zeros, and an adapter that adds kRank * (i + 1) * (row + 1) to every element of a row
// of tensor mI.weight.
std::shared_ptr<const TensorSource> base_of(int tensors) {
  auto base = std::make_shared<MemorySource>();
  base->add("other", DType::kF32, {3}, {1, 2, 3});
  for (int i = 0; i < tensors; ++i) {
    base->add(module_name(i) + ".weight", DType::kF32, {kOut, kIn},
              std::vector<float>(kOut * kIn, 0.0f));
  }
  return base;
}

void write_adapter(const fs::path& folder, int tensors) {
  MemorySource adapter;
  for (int i = 0; i < tensors; ++i) {
    std::vector<float> b;
    for (int64_t row = 0; row < kOut; ++row) b.insert(b.end(), kRank, static_cast<float>(row + 1));
    const std::string name = "base_model.model." + module_name(i);
    adapter.add(name + ".lora_A.weight", DType::kF32, {kRank, kIn},
                std::vector<float>(kRank * kIn, static_cast<float>(i + 1)));
    adapter.add(name + ".lora_B.weight", DType::kF32, {kOut, kRank}, b);
  }
  adapter.write(folder / "adapter_model.safetensors");
  std::ofstream(folder / "adapter_config.json")
      << Json{{"peft_type", "LORA"}, {"r", kRank}, {"lora_alpha", kRank}};
}

std::shared_ptr<const TensorSource> adapted(const fs::path& folder, int tensors) {
  write_adapter(folder, tensors);
  return adapt(base_of(tensors), folder).source;
}

TEST(AdapterFactors, TheCostOfReadingIsThatOfOneTensor) {
  const TempDir one, hundred;
  const auto few = adapted(one.path, 1), many = adapted(hundred.path, 100);
  const uint64_t cost = few->read_cost(few->get("m0.weight")).memory;
  // The rank is filled up to 8.
  EXPECT_GE(cost, 8 * (kOut + kIn) * sizeof(float));
  EXPECT_LE(cost, 5 * 8 * (kOut + kIn) * sizeof(float));
  for (const TensorInfo& t : many->tensors())
    EXPECT_EQ(many->read_cost(t).memory, t.name == "other" ? 0 : cost) << t.name;
}

// More tensors than are kept, in pieces that begin and end within rows, by several threads.
TEST(AdapterFactors, PiecesOfManyTensorsInTurns) {
  constexpr int kTensors = 3 * static_cast<int>(FactorCache::kKept);
  const TempDir dir;
  const auto source = adapted(dir.path, kTensors);
  std::vector<size_t> wrong(4);
  std::vector<std::thread> threads;
  for (size_t thread = 0; thread < wrong.size(); ++thread) {
    threads.emplace_back([&, thread] {
      const int64_t piece = 17 + static_cast<int64_t>(thread);
      for (int64_t first = 0; first < kOut * kIn; first += piece) {
        for (int i = 0; i < kTensors; ++i) {
          std::vector<float> values(static_cast<size_t>(std::min(piece, kOut * kIn - first)));
          source->read(source->get(module_name(i) + ".weight"), first,
                       std::as_writable_bytes(std::span(values)));
          for (size_t at = 0; at < values.size(); ++at) {
            const int64_t row = (first + static_cast<int64_t>(at)) / kIn;
            wrong[thread] += values[at] != static_cast<float>(kRank * (i + 1) * (row + 1));
          }
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<size_t>(wrong.size()));
}

TEST(AdapterFactors, TheLastModulesAreKept) {
  constexpr int kTensors = static_cast<int>(FactorCache::kKept) + 1;
  const TempDir dir;
  write_adapter(dir.path, kTensors);
  const auto base = base_of(kTensors);
  const ReadAdapter adapter = read_adapter(*base, dir.path);
  const auto get = [&](int i) {
    return adapter.products->get(*adapter.changes.at(module_name(i) + ".weight").factors, 0);
  };
  const auto first = get(0);
  for (int i = 1; i + 1 < kTensors; ++i) get(i);
  EXPECT_EQ(get(0), first);  // the same object: it was not read again
  const std::weak_ptr<const std::vector<LowRank>> second = get(1);
  get(0);
  EXPECT_FALSE(second.expired());
  for (int i = 2; i < kTensors; ++i) get(i);
  EXPECT_EQ(get(0), first);
  EXPECT_TRUE(second.expired());
  EXPECT_EQ(get(1)->front().right.front(), 2);
}

// The memory that is announced against that of the products themselves, which experts of one
// module share.
TEST(AdapterFactors, AnnouncedMemoryIsThatOfTheProducts) {
  constexpr int64_t kStacked = 5;
  const TempDir dir;
  MemorySource base, adapter;
  const std::string module = "model.layers.0.mlp.experts";
  const auto zeros = [](int64_t n) { return std::vector<float>(static_cast<size_t>(n)); };
  for (int64_t e = 0; e < kStacked; ++e) {
    const std::string expert = module + "." + std::to_string(e);
    for (const char* name : {".gate_proj.weight", ".up_proj.weight"})
      base.add(expert + name, DType::kF32, {kOut, kIn}, zeros(kOut * kIn));
    base.add(expert + ".down_proj.weight", DType::kF32, {kIn, kOut}, zeros(kOut * kIn));
  }
  adapter.add("base_model.model." + module + ".lora_A.weight", DType::kF32, {kRank * kStacked, kIn},
              zeros(kRank * kStacked * kIn));
  adapter.add("base_model.model." + module + ".lora_B.weight", DType::kF32,
              {2 * kOut, kRank * kStacked}, zeros(2 * kOut * kRank * kStacked));
  adapter.write(dir.path / "adapter_model.safetensors");
  std::ofstream(dir.path / "adapter_config.json")
      << Json{{"peft_type", "LORA"},
              {"r", kRank},
              {"lora_alpha", kRank},
              {"peft_version", "0.19.0"},
              {"target_parameters", {"mlp.experts.gate_up_proj"}}};
  const ReadAdapter read = read_adapter(base, dir.path);
  ASSERT_EQ(read.changes.size(), 2 * kStacked);
  uint64_t held = 0;
  const FactorPlaces* places = nullptr;
  for (const auto& [name, change] : read.changes) {
    if (!places) places = change.factors.get();
    EXPECT_EQ(change.factors.get(), places);
    for (const LowRank& product : *read.products->get(*change.factors, change.part))
      held += (product.left.size() + product.right.size()) * sizeof(float);
  }
  const uint64_t stored = kRank * kStacked * (kIn + 2 * kOut) * sizeof(float);
  EXPECT_EQ(FactorCache::memory(*places), FactorCache::kKept * held + stored);
}

}  // namespace
}  // namespace lewis
