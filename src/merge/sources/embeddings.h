// Embeddings and heads with the rows of another vocabulary: which row of which model every row of
// the output is taken from, and a model that reads its tensors so. Knows no tokenizer.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "io/tensor_source.h"

namespace lewis {

struct RowOf {
  uint32_t model = 0;
  int32_t row = 0;
  bool operator==(const RowOf&) const = default;
};

// The rule of a recipe for one token (mergekit's tokenizer.tokens).
struct TokenRule {
  enum class Kind { kDefault, kZero, kRow };
  int32_t token = 0;  // id in the output
  Kind kind = Kind::kDefault;
  RowOf row;           // kind kRow
  bool force = false;  // also for models that have the token
};

// The rows of one model: row i of the output is the mean of from[begin[i]] ... from[begin[i + 1] -
// 1]. The mean of one row is that row, bit for bit; that of none is zeros. Rows without a token are
// the mean of all rows that have one.
struct ModelRows {
  std::vector<uint32_t> begin = {0};
  std::vector<RowOf> from;
};

struct EmbeddingPlan {
  std::vector<bool> has_token;        // per row of the output
  std::vector<int64_t> vocabularies;  // per model: its own rows
  std::vector<ModelRows> models;
  int64_t rows() const { return static_cast<int64_t>(has_token.size()); }
};

struct VocabularyMap {
  int64_t rows = 0;             // rows of the model's embeddings
  std::vector<int32_t> row_of;  // per id of the output: the model's row or -1
};

// For every model, in this order: its own row, unless forced otherwise; what the rule says; the row
// of the only model that has the token; the base's; the mean over the models that have it; zeros.
// `has_token`: per id of the output. The output has as many rows, or the next multiple of
// `pad_to_multiple_of` (0: none). Nothing when all models have their rows in place already: then
// they keep the padding that they have, unless a multiple is asked for that it is not.
std::optional<EmbeddingPlan> plan_embeddings(const std::vector<VocabularyMap>& models,
                                             std::vector<bool> has_token,
                                             const std::vector<TokenRule>& rules,
                                             std::optional<size_t> base,
                                             int64_t pad_to_multiple_of);

// For people: "rows: 62 of its own, 3 of other models, 1 mean, 0 zeros, 2 padding".
std::string describe_rows(const EmbeddingPlan& plan, size_t model);

// A hash that changes when the plan does.
std::string fingerprint(const EmbeddingPlan& plan);

// Returns whether a tensor is named as embeddings or a head are.
bool is_named_embedding(std::string_view name);
// Returns whether a tensor has one row for each token, by its name and its first dimension.
bool is_embedding(const TensorInfo& tensor, int64_t vocabulary);

// A model whose embeddings, head and the head's bias have the rows of the plan. Everything else is
// passed through.
class PermutedSource final : public TensorSource {
 public:
  // `models` as in the plan; this one is models[model]. Error(kInput) when a tensor named as an
  // embedding has other rows than the model's vocabulary, or a model that gives rows lacks it or
  // has another width.
  PermutedSource(std::shared_ptr<const EmbeddingPlan> plan,
                 std::vector<std::shared_ptr<const TensorSource>> models, size_t model);
  ~PermutedSource() override;

  const std::string& label() const override { return models_[model_]->label(); }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const override;
  ReadCost read_cost(const TensorInfo& tensor) const override;

 private:
  struct Table;  // one embedding
  std::span<const RowOf> rows_of(int64_t row) const;
  int64_t copied_rows(const Table& table, int64_t row, int64_t most) const;
  void read_table(const Table& table, int64_t first, std::span<std::byte> out) const;
  void mix_row(const Table& table, int64_t row, std::span<float> out) const;
  const std::vector<float>& padding_row(const Table& table) const;

  std::shared_ptr<const EmbeddingPlan> plan_;
  std::vector<std::shared_ptr<const TensorSource>> models_;
  size_t model_;
  std::vector<TensorInfo> tensors_;
  std::vector<std::unique_ptr<Table>> tables_;
};

}  // namespace lewis
