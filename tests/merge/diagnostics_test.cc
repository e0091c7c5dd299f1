// diagnose() against plain loops in double over whole tensors.
#include "merge/diagnostics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>

#include "base/error.h"
#include "io/checkpoint.h"
#include "memory_source.h"
#include "merge/engine.h"
#include "temp_dir.h"

namespace lewis {
namespace {

const std::string kDemo = LEWIS_DEMO "/models/";

std::string two_experts(const std::string& method, const std::string& parameters) {
  return "merge_method: " + method + "\nbase_model: " + kDemo + "base\nmodels:\n- model: " + kDemo +
         "math\n  parameters: {weight: 1, density: 0.4}\n- model: " + kDemo +
         "code\n  parameters: {weight: 0.5, density: 0.7}\n" + parameters;
}

MergeDiagnostics run(const Recipe& recipe, size_t thread_count = 2) {
  Threads threads(thread_count);
  return diagnose(MergeInputs(recipe), threads, {});
}

using Floats = std::vector<float>;

Floats values_of(const Checkpoint& model, const std::string& tensor) {
  return model.read_floats(model.get(tensor));
}

// The largest `density` of |model - base|, ties to the lower index, by a full sort.
std::vector<bool> largest(const Floats& model, const Floats& base, double density) {
  std::vector<size_t> order(model.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) {
    return std::abs(model[a] - base[a]) > std::abs(model[b] - base[b]);
  });
  std::vector<bool> kept(model.size(), false);
  const auto count = static_cast<size_t>(density * static_cast<double>(model.size()));
  for (size_t i = 0; i < count; ++i) kept[order[i]] = true;
  return kept;
}

TaskVectorSums plain_sums(const Floats& model, const Floats& base, const Floats& merged,
                          const std::vector<bool>& kept) {
  TaskVectorSums s;
  for (size_t i = 0; i < model.size(); ++i) {
    const double b = base[i], d = static_cast<double>(model[i]) - b;
    s.base_squares += b * b;
    s.squares += d * d;
    s.carried += (static_cast<double>(merged[i]) - b) * d;
    s.changed += d != 0;
    if (!kept[i]) continue;
    s.kept += d != 0;
    s.kept_squares += d * d;
  }
  return s;
}

void expect_near(const TaskVectorSums& found, const TaskVectorSums& wanted) {
  EXPECT_EQ(found.changed, wanted.changed);
  EXPECT_EQ(found.kept, wanted.kept);
  EXPECT_NEAR(found.squares, wanted.squares, 1e-12 * wanted.squares);
  EXPECT_NEAR(found.kept_squares, wanted.kept_squares, 1e-12 * wanted.squares);
  EXPECT_NEAR(found.carried, wanted.carried, 1e-12 * wanted.squares);
  EXPECT_NEAR(found.base_squares, wanted.base_squares, 1e-12 * wanted.base_squares);
}

// The merged model is the one that merge() writes, rounded to its type.
TEST(Diagnostics, EqualBruteForceOnEveryTensor) {
  const TempDir dir;
  const Recipe recipe = parse_recipe(two_experts("ties", "dtype: bfloat16\n"), "r.yml");
  MergeOptions options;
  options.out = dir.path / "out";
  Threads threads(2);
  merge(recipe, options, threads);
  const Checkpoint base = Checkpoint::open(kDemo + "base"), math = Checkpoint::open(kDemo + "math"),
                   code = Checkpoint::open(kDemo + "code"), out = Checkpoint::open(options.out);
  const MergeDiagnostics found = run(recipe);
  ASSERT_EQ(found.models, (std::vector<std::string>{kDemo + "math", kDemo + "code"}));
  EXPECT_TRUE(found.trims);
  ASSERT_EQ(found.tensors.size(), out.tensors().size());
  for (const TensorDiagnostics& t : found.tensors) {
    SCOPED_TRACE(t.name);
    const Floats b = values_of(base, t.name), x = values_of(math, t.name),
                 y = values_of(code, t.name), m = values_of(out, t.name);
    const auto kept_x = largest(x, b, 0.4), kept_y = largest(y, b, 0.7);
    expect_near(t.models[0], plain_sums(x, b, m, kept_x));
    expect_near(t.models[1], plain_sums(y, b, m, kept_y));
    PairSums pair;
    for (size_t i = 0; i < b.size(); ++i) {
      const double d = static_cast<double>(x[i]) - b[i], e = static_cast<double>(y[i]) - b[i];
      const bool both = d != 0 && e != 0, opposite = both && (d > 0) != (e > 0);
      const bool kept = kept_x[i] && kept_y[i];
      pair += {both, opposite, both && kept, opposite && kept, d * e};
    }
    ASSERT_EQ(t.pairs.size(), 1u);
    EXPECT_EQ(t.pairs[0].both, pair.both);
    EXPECT_EQ(t.pairs[0].opposite, pair.opposite);
    EXPECT_EQ(t.pairs[0].both_kept, pair.both_kept);
    EXPECT_EQ(t.pairs[0].opposite_kept, pair.opposite_kept);
    EXPECT_NEAR(t.pairs[0].dot, pair.dot, 1e-12 * t.models[0].squares);
  }
}

// Where the finished model is another than what the method makes, as after refinement, it counts:
// here one that was merged with other weights. Tensors that it lacks are the method's.
TEST(Diagnostics, LooksAtTheFinishedModel) {
  const TempDir dir;
  const Recipe recipe = parse_recipe(two_experts("ties", "dtype: bfloat16\n"), "r.yml");
  const Recipe other =
      parse_recipe(two_experts("task_arithmetic", "dtype: bfloat16\n"), "other.yml");
  MergeOptions options;
  options.out = dir.path / "out";
  Threads threads(2);
  merge(other, options, threads);
  const Checkpoint base = Checkpoint::open(kDemo + "base"), math = Checkpoint::open(kDemo + "math"),
                   out = Checkpoint::open(options.out);
  const MergeDiagnostics before = run(recipe);
  const MergeDiagnostics found = diagnose(MergeInputs(recipe), threads, {}, &out);
  ASSERT_EQ(found.tensors.size(), out.tensors().size());
  for (size_t i = 0; i < found.tensors.size(); ++i) {
    const TensorDiagnostics& t = found.tensors[i];
    const Floats b = values_of(base, t.name), x = values_of(math, t.name),
                 m = values_of(out, t.name);
    const auto kept = largest(x, b, 0.4);
    expect_near(t.models[0], plain_sums(x, b, m, kept));
    EXPECT_NE(t.models[0].carried, before.tensors[i].models[0].carried) << t.name;
    EXPECT_EQ(t.models[0].squares, before.tensors[i].models[0].squares) << t.name;
  }
}

TEST(Diagnostics, SameBitsForAnyNumberOfThreads) {
  const Recipe recipe = parse_recipe(two_experts("dare_ties", ""), "r.yml");
  const MergeDiagnostics one = run(recipe, 1), seven = run(recipe, 7);
  ASSERT_EQ(one.tensors.size(), seven.tensors.size());
  for (size_t t = 0; t < one.tensors.size(); ++t) {
    for (size_t m = 0; m < 2; ++m) {
      const TaskVectorSums &a = one.tensors[t].models[m], &b = seven.tensors[t].models[m];
      EXPECT_EQ(a.kept, b.kept);
      EXPECT_EQ(a.squares, b.squares);
      EXPECT_EQ(a.kept_squares, b.kept_squares);
      EXPECT_EQ(a.carried, b.carried);
    }
    EXPECT_EQ(one.tensors[t].pairs[0].dot, seven.tensors[t].pairs[0].dot);
  }
}

// One model at density 1 and weight 1 is the merge.
TEST(Diagnostics, WholeExpertIsCarriedWhole) {
  const Recipe recipe =
      parse_recipe("merge_method: task_arithmetic\nbase_model: " + kDemo +
                       "base\nmodels:\n- model: " + kDemo + "math\n  parameters: {weight: 1}\n",
                   "r.yml");
  const MergeDiagnostics found = run(recipe);
  EXPECT_FALSE(found.trims);
  for (const TensorDiagnostics& t : found.tensors) {
    if (t.models[0].changed == 0) continue;
    EXPECT_EQ(t.models[0].carried_share(), 1.0);
    EXPECT_EQ(t.models[0].kept_share(), 1.0);
    EXPECT_EQ(t.models[0].energy_dropped(), 0.0);
    EXPECT_TRUE(t.pairs.empty());
  }
}

// linear at weights 1/2: of orthogonal task vectors half of each is carried. The base is one model
// among others there.
TEST(Diagnostics, TheBaseMayBeOneOfTheModels) {
  const TempDir dir;
  const auto write = [&](const char* name, std::vector<float> values) {
    MemorySource source;
    source.add("w", DType::kF32, {2, 2}, values);
    std::filesystem::create_directory(dir.path / name);
    source.write(dir.path / name / "model.safetensors");
    std::ofstream(dir.path / name / "config.json") << "{}";
  };
  write("base", {1, 1, 1, 1});
  write("a", {2, 0, 1, 1});
  write("b", {1, 1, 4, 1});
  const Recipe recipe = parse_recipe(
      "merge_method: linear\nbase_model: base\nmodels:\n- {model: a, parameters: "
      "{weight: 0.5}}\n- {model: b, parameters: {weight: 0.5}}\n- {model: base, "
      "parameters: {weight: 0}}\n",
      dir.path / "r.yml");
  const MergeDiagnostics found = run(recipe);
  ASSERT_EQ(found.tensors.size(), 1u);
  const TensorDiagnostics& t = found.tensors[0];
  ASSERT_EQ(t.models.size(), 2u);
  EXPECT_DOUBLE_EQ(t.models[0].squares, 2);
  EXPECT_DOUBLE_EQ(t.models[1].squares, 9);
  EXPECT_DOUBLE_EQ(t.models[0].carried_share().value(), 0.5);
  EXPECT_DOUBLE_EQ(t.models[1].relative_size().value(), 1.5);
  EXPECT_EQ(t.pairs[0].both, 0);
  EXPECT_FALSE(t.pairs[0].conflict()) << "they share no entry";
}

TEST(Diagnostics, PairsAreCountedThrough) {
  size_t next = 0;
  for (size_t a = 0; a < 5; ++a) {
    for (size_t b = a + 1; b < 5; ++b) EXPECT_EQ(pair_index(a, b, 5), next++);
  }
}

TEST(Diagnostics, WithoutABaseThereAreNoTaskVectors) {
  const Recipe recipe = parse_recipe("merge_method: linear\nmodels:\n- {model: " + kDemo +
                                         "math, parameters: {weight: 1}}\n- {model: " + kDemo +
                                         "code, parameters: {weight: 1}}\n",
                                     "r.yml");
  EXPECT_THROW(run(recipe), Error);
}

}  // namespace
}  // namespace lewis
