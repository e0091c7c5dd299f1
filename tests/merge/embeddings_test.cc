// Rows of another vocabulary against the rules written out for one token at a time.
#include "merge/sources/embeddings.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>

#include "base/error.h"

namespace lewis {
namespace {

constexpr int64_t kWidth = 3;

// A model in memory: embeddings, a head's bias, a norm.
class TableSource final : public TensorSource {
 public:
  TableSource(std::string label, int64_t rows, DType dtype, uint32_t seed)
      : label_(std::move(label)) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (const TensorInfo& t : {TensorInfo{"lm_head.bias", dtype, {rows}},
                                TensorInfo{"model.embed_tokens.weight", dtype, {rows, kWidth}},
                                TensorInfo{"model.norm.weight", dtype, {kWidth}}}) {
      tensors_.push_back(t);
      std::vector<float> floats(static_cast<size_t>(element_count(t.shape)));
      for (float& f : floats) f = normal(random);
      auto& bytes = bytes_[t.name];
      bytes.resize(byte_size(t));
      narrow(floats, dtype, bytes.data());
    }
  }

  const std::string& label() const override { return label_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const override {
    const auto begin = static_cast<size_t>(first) * dtype_size(tensor.dtype);
    std::ranges::copy(std::span(bytes_.at(tensor.name)).subspan(begin, out.size()), out.begin());
  }

 private:
  std::string label_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::vector<std::byte>> bytes_;
};

struct Case {
  std::vector<VocabularyMap> maps;
  std::vector<bool> has_token;
  std::vector<TokenRule> rules;
  std::vector<std::shared_ptr<const TensorSource>> models;

  PermutedSource permuted(size_t model, int64_t multiple = 0) const {
    auto plan = plan_embeddings(maps, has_token, rules, 0, multiple);
    return PermutedSource(std::make_shared<const EmbeddingPlan>(plan.value()), models, model);
  }
  std::vector<float> row(size_t model, int64_t r, const char* tensor, int64_t width) const {
    const auto all = models[model]->read_floats(models[model]->get(tensor));
    return {all.begin() + r * width, all.begin() + (r + 1) * width};
  }

  // The rules, one after the other.
  std::vector<float> expected(size_t model, size_t id, const char* tensor, int64_t width) const {
    const TokenRule* rule = nullptr;
    for (const TokenRule& r : rules) {
      if (r.token == static_cast<int32_t>(id)) rule = &r;
    }
    const int32_t own = maps[model].row_of[id];
    if (own >= 0 && !(rule && rule->force)) return row(model, own, tensor, width);
    if (rule && rule->kind == TokenRule::Kind::kRow)
      return row(rule->row.model, rule->row.row, tensor, width);
    std::vector<float> zeros(static_cast<size_t>(width), 0.0f);
    if (rule && rule->kind == TokenRule::Kind::kZero) return zeros;
    std::vector<size_t> owners;
    for (size_t m = 0; m < maps.size(); ++m) {
      if (maps[m].row_of[id] >= 0) owners.push_back(m);
    }
    if (owners.size() == 1) return row(owners[0], maps[owners[0]].row_of[id], tensor, width);
    if (maps[0].row_of[id] >= 0) return row(0, maps[0].row_of[id], tensor, width);
    std::vector<double> sum(zeros.size(), 0.0);
    for (const size_t m : owners) {
      const auto values = row(m, maps[m].row_of[id], tensor, width);
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
    }
    for (size_t i = 0; i < sum.size() && !owners.empty(); ++i)
      zeros[i] = static_cast<float>(sum[i] / static_cast<double>(owners.size()));
    return zeros;
  }
};

// Three models of 8, 10 and 7 rows, whose tokens lie anywhere; ids 11 and 5 have no token.
Case random_case(uint32_t seed,
                 std::array<DType, 3> dtypes = {DType::kF32, DType::kF32, DType::kF32}) {
  Case c;
  std::mt19937 random(seed);
  c.has_token.assign(14, true);
  c.has_token[11] = c.has_token[5] = false;
  for (size_t m = 0; m < 3; ++m) {
    const int64_t rows = m == 0 ? 8 : m == 1 ? 10 : 7;
    std::vector<int32_t> own(14, -1);
    for (int32_t r = 0; r < rows; ++r) own[static_cast<size_t>(r)] = r;
    std::shuffle(own.begin(), own.end(), random);
    for (size_t id = 0; id < own.size(); ++id) {
      if (!c.has_token[id]) own[id] = -1;
    }
    c.maps.push_back({rows, own});
    c.models.push_back(std::make_shared<const TableSource>("m" + std::to_string(m), rows, dtypes[m],
                                                           seed + 10 * m));
  }
  c.rules = {{2, TokenRule::Kind::kZero, {}, false},
             {3, TokenRule::Kind::kRow, {1, 4}, true},
             {4, TokenRule::Kind::kRow, {2, 0}, false},
             {6, TokenRule::Kind::kDefault, {}, true},
             {7, TokenRule::Kind::kZero, {}, true}};
  return c;
}

TEST(Embeddings, EveryRowByTheRules) {
  for (uint32_t seed = 0; seed < 30; ++seed) {
    const Case c = random_case(seed);
    for (size_t m = 0; m < 3; ++m) {
      const PermutedSource source = c.permuted(m);
      for (const auto& [name, width] :
           {std::pair("model.embed_tokens.weight", kWidth), {"lm_head.bias", int64_t{1}}}) {
        const auto found = source.read_floats(source.get(name));
        ASSERT_EQ(found.size(), static_cast<size_t>(14 * width));
        for (size_t id = 0; id < 14; ++id) {
          if (!c.has_token[id]) continue;
          const auto expected = c.expected(m, id, name, width);
          for (size_t i = 0; i < expected.size(); ++i) {
            ASSERT_NEAR(found[id * expected.size() + i], expected[i], 1e-6)
                << "seed " << seed << " model " << m << " token " << id;
          }
        }
      }
      EXPECT_EQ(source.read_floats(source.get("model.norm.weight")),
                c.models[m]->read_floats(c.models[m]->get("model.norm.weight")));
      EXPECT_EQ(source.label(), c.models[m]->label());
    }
  }
}

TEST(Embeddings, PaddingIsTheMeanOfAllTokens) {
  const Case c = random_case(3);
  const PermutedSource source = c.permuted(1, 8);
  const TensorInfo& info = source.get("model.embed_tokens.weight");
  EXPECT_EQ(info.shape, (Shape{16, kWidth}));
  const auto found = source.read_floats(info);
  for (size_t i = 0; i < kWidth; ++i) {
    double sum = 0;
    for (size_t id = 0; id < 14; ++id) sum += c.has_token[id] ? found[id * kWidth + i] : 0.0f;
    for (const size_t id : {5, 11, 14, 15}) EXPECT_NEAR(found[id * kWidth + i], sum / 12, 1e-6);
  }
}

// A tensor in pieces, wherever they begin and end, has the bytes of the whole.
TEST(Embeddings, PiecesAreThoseOfTheWhole) {
  const Case c = random_case(5, {DType::kBF16, DType::kF16, DType::kF32});
  for (size_t m = 0; m < 3; ++m) {
    const PermutedSource source = c.permuted(m, 5);
    const TensorInfo& info = source.get("model.embed_tokens.weight");
    const size_t size = dtype_size(info.dtype);
    std::vector<std::byte> whole(byte_size(info));
    source.read(info, 0, whole);
    const int64_t count = element_count(info.shape);
    for (int64_t first = 0; first < count; ++first) {
      for (int64_t n = 1; first + n <= count; n += 4) {
        std::vector<std::byte> piece(static_cast<size_t>(n) * size);
        source.read(info, first, piece);
        const auto expected =
            std::span(whole).subspan(static_cast<size_t>(first) * size, piece.size());
        ASSERT_TRUE(std::ranges::equal(piece, expected)) << first << " " << n;
      }
    }
  }
}

// Rows of another type: widened, the mean in float, rounded once.
TEST(Embeddings, MixedTypesAreRoundedOnce) {
  const Case c = random_case(8, {DType::kBF16, DType::kF32, DType::kF32});
  const PermutedSource source = c.permuted(0);
  const auto found = source.read_floats(source.get("model.embed_tokens.weight"));
  for (size_t id = 0; id < 14; ++id) {
    if (!c.has_token[id]) continue;
    auto expected = c.expected(0, id, "model.embed_tokens.weight", kWidth);
    for (size_t i = 0; i < kWidth; ++i)
      EXPECT_EQ(found[id * kWidth + i], bf16_to_float(float_to_bf16(expected[i]))) << id;
  }
}

TEST(Embeddings, NothingToDoWhereAllRowsAreInPlace) {
  const std::vector<bool> tokens(4, true);
  const VocabularyMap padded{6, {0, 1, 2, 3}}, other{5, {0, 1, 2, 3}}, moved{6, {0, 1, 3, 2}};
  const auto rows = [&](const std::vector<VocabularyMap>& maps, int64_t multiple = 0,
                        const std::vector<TokenRule>& rules = {}) -> int64_t {
    const auto plan = plan_embeddings(maps, tokens, rules, 0, multiple);
    return plan ? plan->rows() : -1;
  };
  EXPECT_EQ(rows({padded, padded}), -1) << "the padding stays";
  EXPECT_EQ(rows({padded, padded}, 4), 4);
  EXPECT_EQ(rows({padded, padded}, 3), -1) << "6 is what is asked for";
  EXPECT_EQ(rows({padded, padded}, 5), 5);
  EXPECT_EQ(rows({padded, other}), 4) << "one of them must change";
  EXPECT_EQ(rows({padded, moved}), 4);
  EXPECT_EQ(rows({padded, padded}, 0, {{0, TokenRule::Kind::kZero, {}, false}}), -1)
      << "a rule for models that lack the token";
  EXPECT_EQ(rows({padded, padded}, 0, {{0, TokenRule::Kind::kZero, {}, true}}), 4);
}

TEST(Embeddings, NamesAndRowsTellThem) {
  const auto is = [](const char* name, Shape shape) {
    return is_embedding({name, DType::kF32, std::move(shape)}, 10);
  };
  EXPECT_TRUE(is("model.embed_tokens.weight", {10, 4}));
  EXPECT_TRUE(is("model.language_model.embed_tokens.weight", {10, 4}));
  EXPECT_TRUE(is("lm_head.weight", {10, 4}));
  EXPECT_TRUE(is("lm_head.bias", {10}));
  EXPECT_TRUE(is("transformer.wte.weight", {10, 4}));
  EXPECT_TRUE(is("wte.weight", {10, 4}));
  EXPECT_FALSE(is("model.embed_tokens.weight", {11, 4}));
  EXPECT_FALSE(is("model.layers.0.mlp.up_proj.weight", {10, 4}));
  EXPECT_FALSE(is("model.no_output.weight", {10, 4}));
  EXPECT_FALSE(is("lm_head.weight", {}));
}

TEST(Embeddings, RefusesWhatDoesNotFit) {
  Case c = random_case(1);
  c.maps[0].rows = 9;  // config.json lies
  EXPECT_THROW(c.permuted(0), Error) << "no embedding has 9 rows";
  EXPECT_THROW(c.permuted(1), Error) << "takes rows of model 0";
}

TEST(Embeddings, ThePlanKnowsWhatItDoes) {
  const Case c = random_case(2);
  auto plan = plan_embeddings(c.maps, c.has_token, c.rules, 0, 8).value();
  EXPECT_NE(describe_rows(plan, 0).find("4 padding"), std::string::npos) << describe_rows(plan, 0);
  const std::string before = fingerprint(plan);
  EXPECT_EQ(before, fingerprint(plan));
  plan.models[1].from[0].row ^= 1;
  EXPECT_NE(before, fingerprint(plan));
}

}  // namespace
}  // namespace lewis
