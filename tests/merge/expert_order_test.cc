// Models whose routed experts stand in another order than those of the base: they are told, and
// merged as if they stood in its order. The assignment is held to all permutations.
#include <algorithm>
#include <numeric>

#include "io/expert_tensors.h"
#include "merge/common/assignment.h"
#include "small_experts.h"

namespace lewis {
namespace {

using Order = std::vector<size_t>;  // expert i of the model is number order[i] of the base's order

double cost_of(const std::vector<double>& cost, const Order& columns) {
  double sum = 0;
  for (size_t i = 0; i < columns.size(); ++i) sum += cost[i * columns.size() + columns[i]];
  return sum;
}

bool respects_groups(const Order& columns, size_t groups) {
  const size_t own = columns.size() / groups;
  for (size_t i = 0; i < columns.size(); ++i) {
    if (columns[i] / own != columns[i / own * own] / own) return false;
  }
  return true;
}

double least_of_all(const std::vector<double>& cost, size_t n, size_t groups) {
  Order columns(n);
  std::iota(columns.begin(), columns.end(), 0);
  double least = std::numeric_limits<double>::infinity();
  do {
    if (respects_groups(columns, groups)) least = std::min(least, cost_of(cost, columns));
  } while (std::next_permutation(columns.begin(), columns.end()));
  return least;
}

TEST(Assignment, IsTheCheapestOfAll) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    const size_t n = 1 + static_cast<size_t>(round) % 7;
    std::vector<double> cost(n * n);
    // Few values make many equal sums; negative ones are allowed.
    for (double& c : cost) c = static_cast<double>(random() % (round % 2 ? 4 : 1000)) - 1;
    for (size_t groups = 1; groups <= n; ++groups) {
      if (n % groups != 0) continue;
      const Order columns = cheapest_assignment(cost, n, groups);
      Order sorted = columns;
      std::ranges::sort(sorted);
      for (size_t i = 0; i < n; ++i) ASSERT_EQ(sorted[i], i);
      EXPECT_TRUE(respects_groups(columns, groups));
      EXPECT_EQ(cost_of(cost, columns), least_of_all(cost, n, groups)) << n << " " << groups;
    }
  }
}

constexpr std::array kKinds = {Kind::kSplit, Kind::kMixtral, Kind::kFused, Kind::kTransposed,
                               Kind::kInterleaved};

const std::string kHead =
    "base_model: base\nparameters: {weight: 0.5, density: 0.4}\nmodels:\n- model: math\n- model: "
    "code\n";
const std::string kTies = "merge_method: ties\n" + kHead;
const std::string kDare = "merge_method: dare_ties\n" + kHead;

class ExpertOrders : public SmallModels {
 protected:
  // Experts as a fine-tune has them: near to the base's, with rows of a router that differ.
  static std::vector<Expert> tuned(unsigned seed, float change) {
    std::vector<Expert> base = random_experts(1), more = random_experts(seed + 10);
    for (size_t e = 0; e < base.size(); ++e) {
      for (size_t i = 0; i < kHidden; ++i)
        base[e].router[i] = base[e].down[i] + change * more[e].down[i];
      for (auto matrix : {&Expert::gate, &Expert::up, &Expert::down}) {
        for (size_t i = 0; i < (base[e].*matrix).size(); ++i)
          (base[e].*matrix)[i] += change * (more[e].*matrix)[i];
      }
    }
    return base;
  }

  // The experts stand in `order`; with a correction of the router's choice for each of them.
  void write_in(const std::string& model, Kind kind, std::vector<Expert> experts,
                const Order& order, const Json& more = Json::object()) const {
    std::vector<Expert> moved;
    std::vector<float> correction;
    for (const size_t e : order) {
      moved.push_back(experts[e]);
      correction.push_back(experts[e].router[0] * 2);
    }
    Stored stored = stored_as(kind, moved);
    const std::string place = kind == Kind::kMixtral ? "model.layers.0.block_sparse_moe." : kMlp;
    stored.values[place + "e_score_correction_bias"] = correction;
    if (shared_)
      add(stored, place + "shared_expert.up_proj.weight", experts[0].up, {kInner, kHidden});
    Json config = config_of(kind);
    config.update(more);
    write(model, stored.values, config, stored.shapes);
  }

  void write_all(Kind kind, const Order& math, const Order& code,
                 const Json& more = Json::object()) const {
    write_in("base", kind, tuned(0, 0), kNone, more);
    write_in("math", kind, tuned(1, 0.125f), math, more);
    write_in("code", kind, tuned(2, 0.125f), code, more);
  }

  static inline const Order kNone = {0, 1, 2, 3};
  bool shared_ = true;  // whether there is a shared expert, which has one name alone
};

TEST_F(ExpertOrders, APermutedModelMergesAsTheOther) {
  for (const std::string& text : {kTies, kDare}) {
    for (const Kind kind : kKinds) {
      write_all(kind, kNone, kNone);
      const Values expected = merged(text);
      EXPECT_FALSE(has_note("order"));
      write_all(kind, {2, 0, 1, 3}, {3, 2, 1, 0});
      EXPECT_EQ(merged(text), expected) << static_cast<int>(kind);
      EXPECT_TRUE(has_note("math: 3 experts of 1 layer stand in another order than in "));
      EXPECT_TRUE(has_note("code: 4 experts of 1 layer stand in another order than in "));
      EXPECT_NE(merged(text + "expert_order: keep\n"), expected);
      EXPECT_FALSE(has_note("order than in"));
    }
  }
}

TEST_F(ExpertOrders, ModelsThatStoreThemInDifferentWays) {
  write_all(Kind::kSplit, kNone, kNone);
  const Values expected = merged(kTies);
  for (const Kind kind : {Kind::kFused, Kind::kTransposed}) {
    write_in("code", kind, tuned(2, 0.125f), {1, 0, 3, 2});
    EXPECT_EQ(merged(kTies), expected);
  }
  shared_ = false;
  write_all(Kind::kSplit, kNone, kNone);
  const Values alone = merged(kTies);
  write_in("code", Kind::kMixtral, tuned(2, 0.125f), {1, 0, 3, 2});
  EXPECT_EQ(merged(kTies), alone);
}

TEST_F(ExpertOrders, WithoutABaseTheFirstModelSaysIt) {
  const std::string text =
      "merge_method: linear\nparameters: {weight: 0.5}\nmodels:\n- model: math\n- model: code\n";
  const Order order = {1, 2, 3, 0};
  write_all(Kind::kSplit, order, order);
  const Values expected = merged(text);
  EXPECT_FALSE(has_note("order than in"));
  write_in("code", Kind::kSplit, tuned(2, 0.125f), {2, 0, 3, 1});
  EXPECT_EQ(merged(text), expected);
}

// A router that is limited to groups scores group by group: an order that would tear them apart is
// none that the model can have.
TEST_F(ExpertOrders, GroupsMoveAsGroups) {
  const Json limited = {{"n_group", 2}, {"topk_group", 1}};
  write_all(Kind::kSplit, kNone, kNone, limited);
  const Values expected = merged(kTies);
  for (const Order& order : {Order{2, 3, 0, 1}, Order{3, 2, 0, 1}, Order{1, 0, 2, 3}}) {
    write_all(Kind::kSplit, order, kNone, limited);
    EXPECT_EQ(merged(kTies), expected);
  }
  write_all(Kind::kSplit, {0, 2, 1, 3}, kNone, limited);
  EXPECT_NE(merged(kTies), expected);
  write_all(Kind::kSplit, {0, 2, 1, 3}, kNone, {{"n_group", 2}, {"topk_group", 2}});
  EXPECT_EQ(merged(kTies), expected);
}

TEST_F(ExpertOrders, ExpertsOfAnotherOriginStay) {
  write_all(Kind::kSplit, kNone, kNone);
  std::vector<Expert> foreign = random_experts(7);
  for (Expert& e : foreign) std::copy_n(e.up.begin(), kHidden, e.router.begin());
  write_in("code", Kind::kSplit, foreign, kNone);
  const Values kept = merged(kTies + "expert_order: keep\n");
  EXPECT_FALSE(has_note("in no order"));
  EXPECT_EQ(merged(kTies), kept);
  EXPECT_TRUE(has_note("the experts of 1 layer (model.layers.0.mlp. first) are clearly those of"));
}

// The weights have a say where the router alone was permuted, or trained anew.
TEST_F(ExpertOrders, ARouterAloneDoesNotMoveExperts) {
  write_all(Kind::kSplit, kNone, kNone);
  std::vector<Expert> odd = tuned(2, 0.125f);
  std::swap(odd[0].router, odd[1].router);
  write_in("code", Kind::kSplit, odd, kNone);
  EXPECT_EQ(merged(kTies), merged(kTies + "expert_order: keep\n"));
}

TEST_F(ExpertOrders, AnAdapterOnAPermutedModel) {
  const std::string text =
      "merge_method: ties\nbase_model: base\nparameters: {weight: 0.5, density: 0.4}\nmodels:\n"
      "- model: math+lora\n- model: code\n";
  const std::string target = "model.layers.0.mlp.shared_expert.up_proj.";
  write_adapter(
      "lora",
      {{target + "lora_A.weight", {1, 2, 3, 4, 5, 6}},
       {target + "lora_B.weight", {0.5f, 0.25f, 1, -1}}},
      {{target + "lora_A.weight", {1, kHidden}}, {target + "lora_B.weight", {kInner, 1}}});
  write_all(Kind::kSplit, kNone, kNone);
  const Values expected = merged(text);
  write_all(Kind::kSplit, {3, 0, 1, 2}, kNone);
  EXPECT_EQ(merged(text), expected);
}

TEST_F(ExpertOrders, StagesAndModulesKnowIt) {
  const std::string text =
      "name: half\nmerge_method: linear\nparameters: {weight: 0.5}\nmodels:\n- model: math\n"
      "- model: code\n---\nmerge_method: task_arithmetic\nbase_model: base\nparameters: {weight: "
      "1}\nmodels:\n- model: half\n";
  write_all(Kind::kFused, kNone, kNone);
  const Values expected = merged(text);
  write_all(Kind::kFused, {3, 0, 1, 2}, {1, 0, 2, 3});
  EXPECT_EQ(merged(text), expected);
  EXPECT_TRUE(has_note("half: 4 experts of 1 layer stand in another order"));
}

TEST_F(ExpertOrders, ACopyIsACopy) {
  write_all(Kind::kSplit, {3, 0, 1, 2}, kNone);
  const std::string text =
      "merge_method: passthrough\nslices:\n- sources: [{model: base, layer_range: [0, 1]}]\n"
      "- sources: [{model: math, layer_range: [0, 1]}]\n";
  EXPECT_EQ(merged(text), merged(text + "expert_order: keep\n"));
  EXPECT_FALSE(has_note("order"));
}

TEST_F(ExpertOrders, TheKeyIsPrintedAndChecked) {
  write_all(Kind::kSplit, kNone, kNone);
  EXPECT_EQ(to_yaml(recipe(kTies), false).find("expert_order"), std::string::npos);
  const Recipe keep = recipe(kTies + "expert_order: keep\n");
  EXPECT_NE(to_yaml(keep, false).find("expert_order: keep\n"), std::string::npos);
  EXPECT_EQ(to_yaml(keep, true).find("expert_order"), std::string::npos);
  EXPECT_EQ(to_yaml(recipe(to_yaml(keep, false)), false), to_yaml(keep, false));
  expect_refused(kTies + "expert_order: sort\n", ExitCode::kUsage, "expert_order");
}

}  // namespace
}  // namespace lewis
