// Routed experts in two spellings, and layers that are stored fused or in parts: any pair of
// parents is merged, and the result does not depend on how they are stored.
#include "io/expert_tensors.h"
#include "small_experts.h"

namespace lewis {
namespace {

class Experts : public SmallModels {
 protected:
  void write_as(const std::string& model, Kind kind, unsigned seed) const {
    const Stored stored = stored_as(kind, random_experts(seed));
    write(model, stored.values, config_of(kind), stored.shapes);
  }
  void write_all(Kind base, Kind math, Kind code) const {
    write_as("base", base, 1);
    write_as("math", math, 2);
    write_as("code", code, 3);
  }
};

const std::string kTies =
    "merge_method: ties\nbase_model: base\nparameters: {weight: 0.5, density: 0.4}\n"
    "models:\n- model: math\n- model: code\n";
const std::string kDare =
    "merge_method: dare_ties\nbase_model: base\nparameters: {weight: 0.5, density: 0.4}\n"
    "models:\n- model: math\n- model: code\n";

constexpr std::array kKinds = {Kind::kSplit, Kind::kMixtral, Kind::kFused, Kind::kTransposed,
                               Kind::kInterleaved};

// What split parents give, expert by expert, is what all others must give.
Values in_the_spelling(const Values& split, Kind kind) {
  std::vector<Expert> experts(kExperts);
  for (size_t e = 0; e < kExperts; ++e) {
    const std::string place = fmt::format("{}experts.{}.", kMlp, e);
    experts[e] = {split.at(place + "gate_proj.weight"), split.at(place + "up_proj.weight"),
                  split.at(place + "down_proj.weight")};
  }
  return stored_as(kind, experts).values;
}

TEST_F(Experts, AnyPairOfParentsMergesToTheSame) {
  write_all(Kind::kSplit, Kind::kSplit, Kind::kSplit);
  const Values expected = merged(kTies);
  for (const Kind base : kKinds) {
    for (const Kind math : kKinds) {
      write_all(base, math, Kind::kSplit);
      EXPECT_EQ(merged(kTies), in_the_spelling(expected, base))
          << static_cast<int>(base) << " with " << static_cast<int>(math);
    }
  }
}

TEST_F(Experts, RandomMasksAreThoseOfTheExpert) {
  write_all(Kind::kSplit, Kind::kSplit, Kind::kSplit);
  const Values expected = merged(kDare);
  for (const Kind kind : {Kind::kFused, Kind::kTransposed, Kind::kInterleaved}) {
    write_all(kind, kind, kind);
    EXPECT_EQ(merged(kDare), in_the_spelling(expected, kind)) << static_cast<int>(kind);
  }
}

TEST_F(Experts, TheRecipeChoosesTheSpelling) {
  write_all(Kind::kSplit, Kind::kFused, Kind::kSplit);
  const Values split = merged(kTies);
  EXPECT_EQ(merged(kTies + "experts: fused\n"), in_the_spelling(split, Kind::kFused));
  EXPECT_EQ(merged(kTies + "experts: split\n"), split);
  EXPECT_FALSE(has_note("which transformers does not load"));
  write_all(Kind::kTransposed, Kind::kSplit, Kind::kSplit);
  EXPECT_EQ(merged(kTies + "experts: split\n"), split);
  EXPECT_TRUE(has_note("which transformers does not load"));
  EXPECT_EQ(merged(kTies + "experts: fused\n"), in_the_spelling(split, Kind::kTransposed));
  write_all(Kind::kMixtral, Kind::kFused, Kind::kSplit);
  EXPECT_EQ(merged(kTies + "experts: fused\n"), in_the_spelling(split, Kind::kFused));
  // A mixtral that was saved fused gets the names that transformers loads.
  const Stored fused = stored_as(Kind::kFused, random_experts(1));
  write("base", fused.values, config_of(Kind::kMixtral), fused.shapes);
  EXPECT_EQ(merged(kTies + "experts: split\n"), in_the_spelling(split, Kind::kMixtral));
}

TEST_F(Experts, FiltersKnowAFusedExpertByBothNames) {
  write_all(Kind::kFused, Kind::kFused, Kind::kFused);
  const auto text = [](const std::string& filter) {
    return "merge_method: task_arithmetic\nbase_model: base\nparameters:\n  weight: [{filter: " +
           filter + ", value: 1}, {value: 0}]\nmodels:\n- model: math\n";
  };
  const Stored base = stored_as(Kind::kFused, random_experts(1));
  const Stored math = stored_as(Kind::kFused, random_experts(2));
  for (const char* filter : {"experts.gate_up_proj", "experts.down_proj"}) {
    const Values out = merged(text(filter));
    for (const auto& [name, values] : out) {
      const bool changed = name.find(filter) != std::string::npos;
      EXPECT_EQ(values, (changed ? math : base).values.at(name)) << name;
    }
  }
  const auto out = merged(text("experts.1.down_proj"));
  EXPECT_NE(out.at(kMlp + "experts.down_proj"), base.values.at(kMlp + "experts.down_proj"));
  EXPECT_NE(out.at(kMlp + "experts.down_proj"), math.values.at(kMlp + "experts.down_proj"));
}

TEST_F(Experts, WhatDoesNotFitTogetherStays) {
  Stored odd = stored_as(Kind::kFused, random_experts(1));
  odd.shapes[kMlp + "experts.down_proj"] = {kExperts * kInner, kHidden, 1};
  write("base", odd.values, config_of(Kind::kFused), odd.shapes);
  write("math", odd.values, config_of(Kind::kFused), odd.shapes);
  write("code", odd.values, config_of(Kind::kFused), odd.shapes);
  EXPECT_EQ(merged(kTies), odd.values);
  write_as("code", Kind::kSplit, 3);
  expect_refused(kTies, ExitCode::kInput, "experts.down_proj is in ");
}

struct Rows {
  std::string what;
  std::vector<std::pair<std::string, int64_t>> parts;  // rows of each
  std::string fused;
};

class FusedRows : public SmallModels, public testing::WithParamInterface<Rows> {
 protected:
  void write_rows(const std::string& model, bool fused, float first) const {
    Values values;
    std::map<std::string, Shape> shapes;
    const std::string place = "model.layers.0.self_attn.";
    float v = first;
    for (const auto& [part, rows] : GetParam().parts) {
      for (const char* end : {".weight", ".bias"}) {
        const bool weight = std::string_view(end) == ".weight";
        auto& to = values[place + (fused ? GetParam().fused : part) + end];
        for (int64_t i = 0; i < rows * (weight ? 2 : 1); ++i) to.push_back(v += 1);
        const auto all = static_cast<int64_t>(to.size());
        if (weight) shapes[place + (fused ? GetParam().fused : part) + end] = {all / 2, 2};
      }
    }
    write(model, values, {{"model_type", "phi3"}}, shapes);
  }
};
INSTANTIATE_TEST_SUITE_P(
    All, FusedRows,
    testing::Values(Rows{"qkv", {{"q_proj", 4}, {"k_proj", 2}, {"v_proj", 2}}, "qkv_proj"},
                    Rows{"gate_up", {{"gate_proj", 3}, {"up_proj", 3}}, "gate_up_proj"}),
    [](const auto& test) { return test.param.what; });

TEST_P(FusedRows, FitTheFirstModel) {
  const std::string text =
      "merge_method: linear\nparameters: {weight: 0.5}\nmodels:\n- model: a\n- model: b\n";
  for (const bool fused : {false, true}) {
    write_rows("a", fused, 0);
    write_rows("b", fused, 10);
    const Values expected = merged(text);
    write_rows("b", !fused, 10);
    EXPECT_EQ(merged(text), expected) << fused;
    EXPECT_TRUE(has_note("stored in another way than in"));
  }
}

}  // namespace
}  // namespace lewis
