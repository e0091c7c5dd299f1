// Adapters of whole parameters (PEFT's target_parameters), against the sums of PEFT's
// ParamWrapper.get_delta_weight in double.
#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <map>
#include <random>

#include "base/error.h"
#include "base/json.h"
#include "memory_source.h"
#include "merge/sources/adapter_source.h"
#include "temp_dir.h"

namespace lewis {
namespace {

constexpr int64_t kExperts = 3, kHidden = 4, kInner = 6;

std::vector<float> some(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(n));
  for (float& v : values) v = normal(random);
  return values;
}

// A pair of thin matrices as PEFT saves them: a is [experts * rank, a_width], b is [b_width, rank *
// experts].
struct Pair {
  int64_t a_width, b_width, rank;
  double scale;
  std::vector<float> a, b;
  Pair(int64_t a_width_, int64_t b_width_, int64_t rank_, double scale_, uint32_t seed)
      : a_width(a_width_),
        b_width(b_width_),
        rank(rank_),
        scale(scale_),
        a(some(kExperts * rank * a_width, seed)),
        b(some(kExperts * rank * b_width, seed + 1)) {}

  void add_to(MemorySource& file, const std::string& module) const {
    const std::string m = "base_model.model." + module;
    file.add(m + ".lora_A.weight", DType::kF32, {kExperts * rank, a_width}, a);
    file.add(m + ".lora_B.weight", DType::kF32, {b_width, rank * kExperts}, b);
  }
  // einsum("o r e, e r i", b, a) for one expert.
  double at(int64_t expert, int64_t o, int64_t i) const {
    double sum = 0;
    for (int64_t r = 0; r < rank; ++r)
      sum += double(b[(o * rank + r) * kExperts + expert]) *
             double(a[(expert * rank + r) * a_width + i]);
    return scale * sum;
  }
};

std::shared_ptr<const TensorSource> with(std::shared_ptr<const TensorSource> base,
                                         const MemorySource& file, Json config) {
  const TempDir dir;
  config["peft_type"] = "LORA";
  config["r"] = 2;
  config["lora_alpha"] = 4;
  file.write(dir.path / "adapter_model.safetensors");
  std::ofstream(dir.path / "adapter_config.json") << config;
  return adapt(std::move(base), dir.path).source;
}

// Compares a tensor with its base plus `change(flat index)`.
template <typename F>
void expect_changed(const TensorSource& base, const TensorSource& ours, const std::string& name,
                    const F& change) {
  const auto before = base.read_floats(base.get(name)), after = ours.read_floats(ours.get(name));
  ASSERT_EQ(before.size(), after.size());
  for (size_t i = 0; i < after.size(); ++i)
    ASSERT_NEAR(double(after[i]), double(before[i]) + change(int64_t(i)), 1e-5)
        << name << " at " << i;
}

const std::string kModule = "model.layers.0.mlp.experts";

// A matrix per expert, named as in `names` (gate, up, down).
std::shared_ptr<MemorySource> split_base(const std::string& module,
                                         const std::array<std::string, 3>& names, int64_t inner) {
  auto base = std::make_shared<MemorySource>();
  for (int64_t e = 0; e < kExperts; ++e) {
    for (size_t n = 0; n < 3; ++n) {
      const Shape shape = n < 2 ? Shape{inner, kHidden} : Shape{kHidden, inner};
      base->add(fmt::format("{}.{}.{}.weight", module, e, names[n]), DType::kF32, shape,
                some(inner * kHidden, uint32_t(100 + 3 * e) + uint32_t(n)));
    }
  }
  base->add("model.layers.0.mlp.gate.weight", DType::kF32, {kExperts, kHidden},
            some(kExperts * kHidden, 77));
  return base;
}

// The base with both parameters as tensors of three dimensions.
std::shared_ptr<MemorySource> fused_base(Shape gate_up, Shape down) {
  auto base = std::make_shared<MemorySource>();
  base->add(kModule + ".gate_up_proj", DType::kF32, gate_up, some(element_count(gate_up), 5));
  base->add(kModule + ".down_proj", DType::kF32, down, some(element_count(down), 6));
  return base;
}

const Json kBoth = {"mlp.experts.gate_up_proj", "down_proj"};

TEST(AdapterExperts, ChangeTheMatricesOfSplitExperts) {
  const std::map<std::string, std::array<std::string, 3>> spellings = {
      {"model.layers.0.mlp.experts", {"gate_proj", "up_proj", "down_proj"}},
      {"model.layers.0.block_sparse_moe.experts", {"w1", "w3", "w2"}},
      {"language_model.model.layers.0.mlp.experts", {"gate_proj", "up_proj", "down_proj"}}};
  for (const auto& [module, names] : spellings) {
    const auto base = split_base(module, names, kInner);
    const Pair gate_up(kHidden, 2 * kInner, 3, 6.0 / 3, 1), down(kInner, kHidden, 2, 4.0 / 2, 3);
    MemorySource file;
    gate_up.add_to(file, kModule + ".base_layer");
    down.add_to(file, kModule);
    const auto ours = with(base, file,
                           {{"target_parameters", kBoth},
                            {"rank_pattern", {{".*\\.gate_up_proj", 3}}},
                            {"alpha_pattern", {{".*\\.gate_up_proj", 6}}}});
    for (int64_t e = 0; e < kExperts; ++e) {
      const std::string expert = fmt::format("{}.{}.", module, e);
      for (int64_t half = 0; half < 2; ++half)
        expect_changed(*base, *ours, expert + names[half] + ".weight", [&](int64_t i) {
          return gate_up.at(e, half * kInner + i / kHidden, i % kHidden);
        });
      expect_changed(*base, *ours, expert + names[2] + ".weight",
                     [&](int64_t i) { return down.at(e, i / kInner, i % kInner); });
    }
  }
}

TEST(AdapterExperts, OneParameterAloneHasNoLevels) {
  const auto base = split_base(kModule, {"gate_proj", "up_proj", "down_proj"}, kInner);
  const Pair gate_up(kHidden, 2 * kInner, 2, 2, 1);
  MemorySource file;
  gate_up.add_to(file, kModule);
  const auto ours = with(base, file, {{"target_parameters", {"gate_up_proj"}}});
  expect_changed(*base, *ours, kModule + ".1.up_proj.weight",
                 [&](int64_t i) { return gate_up.at(1, kInner + i / kHidden, i % kHidden); });
  expect_changed(*base, *ours, kModule + ".1.down_proj.weight", [](int64_t) { return 0; });
}

// [experts, outputs, inputs] as Qwen3-VL and Qwen3.5 have it, [experts, inputs, outputs] as gpt-oss
// and Llama 4, each with lora_A on either side: PEFT took the rows for the inputs until 0.18.
TEST(AdapterExperts, ChangeTensorsOfThreeDimensions) {
  for (const bool inputs_are_rows : {false, true}) {
    const auto base =
        inputs_are_rows ? fused_base({kExperts, kHidden, 2 * kInner}, {kExperts, kInner, kHidden})
                        : fused_base({kExperts, 2 * kInner, kHidden}, {kExperts, kHidden, kInner});
    for (const bool a_has_rows : {false, true}) {
      std::map<std::string, Pair> pairs;
      MemorySource file;
      for (const std::string name : {"gate_up_proj", "down_proj"}) {
        const Shape& shape = base->get(kModule + "." + name).shape;
        const Pair pair(shape[a_has_rows ? 1 : 2], shape[a_has_rows ? 2 : 1], 2, 2,
                        uint32_t(shape[1]));
        pair.add_to(file, kModule + (name == "down_proj" ? "" : ".base_layer"));
        pairs.emplace(name, pair);
      }
      const auto ours = with(base, file, {{"target_parameters", kBoth}});
      for (const auto& [name, pair] : pairs) {
        const int64_t rows = base->get(kModule + "." + name).shape[1];
        const int64_t columns = base->get(kModule + "." + name).shape[2];
        expect_changed(*base, *ours, kModule + "." + name, [&, &pair = pair](int64_t i) {
          const int64_t row = i / columns % rows, column = i % columns;
          return pair.at(i / columns / rows, a_has_rows ? column : row, a_has_rows ? row : column);
        });
      }
    }
  }
}

// In square matrices only the version tells what lora_A stands for.
TEST(AdapterExperts, SquareMatricesAreReadByTheVersion) {
  struct Case {
    bool inputs_are_rows;
    const char* version;
    bool a_has_rows;
  };
  // gpt-oss has square matrices for `down_proj`.
  for (const Case& c :
       {Case{true, "0.18.1", true}, Case{true, "0.21.2", true}, Case{false, "", true},
        Case{false, "0.18.0", true}, Case{false, "0.20.0", false}, Case{false, "1.0.0", false}}) {
    const auto base = c.inputs_are_rows ? fused_base({kExperts, 4, 8}, {kExperts, 4, 4})
                                        : fused_base({kExperts, 8, 4}, {kExperts, 4, 4});
    const Pair down(4, 4, 2, 2, 9);
    MemorySource file;
    down.add_to(file, kModule);
    const auto ours = with(
        base, file, {{"target_parameters", {"experts.down_proj"}}, {"peft_version", c.version}});
    expect_changed(*base, *ours, kModule + ".down_proj", [&](int64_t i) {
      const int64_t row = i / 4 % 4, column = i % 4;
      return down.at(i / 16, c.a_has_rows ? column : row, c.a_has_rows ? row : column);
    });
  }
}

// A router has two dimensions; its rank is looked up under the parameter's name.
TEST(AdapterExperts, ARouterIsAnOrdinaryMatrix) {
  const auto base = split_base(kModule, {"gate_proj", "up_proj", "down_proj"}, kInner);
  const auto a = some(3 * kHidden, 1), b = some(kExperts * 3, 2);
  MemorySource file;
  const std::string m = "base_model.model.model.layers.0.mlp.gate.";
  file.add(m + "lora_A.weight", DType::kF32, {3, kHidden}, a);
  file.add(m + "lora_B.weight", DType::kF32, {kExperts, 3}, b);
  const auto ours = with(base, file,
                         {{"target_parameters", {"gate.weight"}},
                          {"rank_pattern", {{"mlp.gate.weight", 3}}},
                          {"alpha_pattern", {{"mlp.gate.weight", 6}}}});
  expect_changed(*base, *ours, "model.layers.0.mlp.gate.weight", [&](int64_t i) {
    double sum = 0;
    for (int64_t r = 0; r < 3; ++r)
      sum += double(b[i / kHidden * 3 + r]) * double(a[r * kHidden + i % kHidden]);
    return 2 * sum;
  });
}

TEST(AdapterExperts, WhatCannotBeToldIsRefused) {
  const auto split = split_base(kModule, {"gate_proj", "up_proj", "down_proj"}, kInner);
  const auto refused = [](std::shared_ptr<const TensorSource> base, const MemorySource& file,
                          const Json& config, const std::string& part) {
    try {
      with(std::move(base), file, config);
      ADD_FAILURE() << "accepted: " << part;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kInput);
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    }
  };
  MemorySource one, wrong, deep;
  Pair(kInner, kHidden, 2, 2, 1).add_to(one, kModule);
  Pair(kInner + 1, kHidden, 2, 2, 1).add_to(wrong, kModule);
  Pair(kInner, kHidden, 2, 2, 1).add_to(deep, kModule + ".base_layer");
  refused(split, one, {{"target_parameters", kBoth}}, "has fewer");
  refused(split, wrong, {{"target_parameters", {"down_proj"}}}, "gives experts of 4 by 7");
  refused(split, deep, {{"target_parameters", {"down_proj"}}}, "has more");
  refused(split, deep, {{"target_parameters", kBoth}}, "has fewer");
  refused(split, one, {{"target_parameters", {"down_proj"}}, {"rank_pattern", {{"down_proj", 3}}}},
          "expected 3 times 3 rows");
  refused(split, one, {{"target_parameters", 3}}, "expected a list");
  refused(
      split_base(kModule, {"gate_proj", "up_proj", "down_proj"}, kHidden),
      [] {
        MemorySource file;
        Pair(kHidden, kHidden, 2, 2, 1).add_to(file, kModule);
        return file;
      }(),
      {{"target_parameters", {"down_proj"}}, {"peft_version", "0.19.1"}}, "are square");
}

}  // namespace
}  // namespace lewis
