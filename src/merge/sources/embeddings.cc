#include "merge/sources/embeddings.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <map>
#include <string_view>

#include "base/error.h"
#include "base/hash.h"

namespace lewis {
namespace {

bool in_place(const std::vector<VocabularyMap>& models, const std::vector<bool>& has_token,
              const std::vector<TokenRule>& rules, int64_t padded) {
  const auto tokens = static_cast<int64_t>(has_token.size());
  const auto own = [&](const VocabularyMap& m) {
    if (m.rows != models[0].rows || m.rows < tokens) return false;
    for (size_t id = 0; id < has_token.size(); ++id) {
      if (has_token[id] && m.row_of[id] != static_cast<int32_t>(id)) return false;
    }
    return true;
  };
  return std::ranges::all_of(models, own) && std::ranges::none_of(rules, &TokenRule::force) &&
         (padded == 0 || padded == models[0].rows);
}

// The rows that a token's embedding is the mean of, in models that lack the token or are forced.
std::vector<RowOf> default_rows(const std::vector<VocabularyMap>& models, size_t token,
                                const TokenRule* rule, std::optional<size_t> base) {
  if (rule && rule->kind == TokenRule::Kind::kZero) return {};
  if (rule && rule->kind == TokenRule::Kind::kRow) return {rule->row};
  std::vector<RowOf> owners;
  for (size_t m = 0; m < models.size(); ++m) {
    const int32_t row = models[m].row_of[token];
    if (row < 0) continue;
    if (base == m) return {{static_cast<uint32_t>(m), row}};
    owners.push_back({static_cast<uint32_t>(m), row});
  }
  return owners;
}

// By the end of the name: llama and most, gpt-2, gpt-neox, bloom and falcon, internlm2, mamba,
// chatglm, t5. A head may have a bias.
constexpr std::array<std::string_view, 14> kNames = {
    "embed_tokens.weight", "lm_head.weight",        "lm_head.bias",      "wte.weight",
    "embed_in.weight",     "embed_out.weight",      "embed_out.bias",    "word_embeddings.weight",
    "output.weight",       "tok_embeddings.weight", "embeddings.weight", "embedding.weight",
    "output_layer.weight", "shared.weight"};

}  // namespace

std::optional<EmbeddingPlan> plan_embeddings(const std::vector<VocabularyMap>& models,
                                             std::vector<bool> has_token,
                                             const std::vector<TokenRule>& rules,
                                             std::optional<size_t> base,
                                             int64_t pad_to_multiple_of) {
  const auto tokens = static_cast<int64_t>(has_token.size());
  const int64_t multiple = std::max<int64_t>(pad_to_multiple_of, 1);
  const int64_t rows = (tokens + multiple - 1) / multiple * multiple;
  if (in_place(models, has_token, rules, pad_to_multiple_of > 0 ? rows : 0)) return std::nullopt;
  std::map<size_t, const TokenRule*> rule_of;
  for (const TokenRule& rule : rules) rule_of[static_cast<size_t>(rule.token)] = &rule;

  EmbeddingPlan plan;
  plan.models.resize(models.size());
  for (const VocabularyMap& m : models) plan.vocabularies.push_back(m.rows);
  for (size_t id = 0; id < has_token.size(); ++id) {
    const auto found = rule_of.find(id);
    const TokenRule* rule = found == rule_of.end() ? nullptr : found->second;
    const auto others = has_token[id] ? default_rows(models, id, rule, base) : std::vector<RowOf>();
    for (size_t m = 0; m < models.size(); ++m) {
      ModelRows& to = plan.models[m];
      const int32_t own = has_token[id] ? models[m].row_of[id] : -1;
      if (own >= 0 && !(rule && rule->force)) {
        to.from.push_back({static_cast<uint32_t>(m), own});
      } else {
        to.from.insert(to.from.end(), others.begin(), others.end());
      }
      to.begin.push_back(static_cast<uint32_t>(to.from.size()));
    }
  }
  has_token.resize(static_cast<size_t>(rows), false);
  for (ModelRows& to : plan.models) to.begin.resize(has_token.size() + 1, to.begin.back());
  plan.has_token = std::move(has_token);
  return plan;
}

std::string describe_rows(const EmbeddingPlan& plan, size_t model) {
  const ModelRows& rows = plan.models[model];
  size_t own = 0, others = 0, means = 0, zeros = 0, padding = 0;
  for (size_t i = 0; i < plan.has_token.size(); ++i) {
    const uint32_t n = rows.begin[i + 1] - rows.begin[i];
    if (!plan.has_token[i]) {
      ++padding;
    } else if (n == 1) {
      ++(rows.from[rows.begin[i]].model == model ? own : others);
    } else {
      ++(n == 0 ? zeros : means);
    }
  }
  return fmt::format("rows: {} of its own, {} of other models, {} means, {} zeros, {} padding", own,
                     others, means, zeros, padding);
}

std::string fingerprint(const EmbeddingPlan& plan) {
  Sha256 hash;
  for (const bool real : plan.has_token) hash.add(real ? "1" : "0");
  for (const ModelRows& m : plan.models) {
    hash.add(std::as_bytes(std::span(m.begin)));
    hash.add(std::as_bytes(std::span(m.from)));
  }
  return hash.hex();
}

bool is_named_embedding(std::string_view name) {
  return std::ranges::any_of(kNames, [&](std::string_view end) {
    return name.ends_with(end) &&
           (name.size() == end.size() || name[name.size() - end.size() - 1] == '.');
  });
}

bool is_embedding(const TensorInfo& tensor, int64_t vocabulary) {
  return !tensor.shape.empty() && tensor.shape[0] == vocabulary && is_named_embedding(tensor.name);
}

struct PermutedSource::Table {
  std::vector<const TensorInfo*> of_model;  // null: this model gives no rows
  TensorInfo info;                          // with the rows of the plan
  int64_t width = 1;                        // elements of a row
  mutable std::once_flag once;
  mutable std::vector<float> padding;  // the mean of all rows with a token
};

PermutedSource::~PermutedSource() = default;

PermutedSource::PermutedSource(std::shared_ptr<const EmbeddingPlan> plan,
                               std::vector<std::shared_ptr<const TensorSource>> models,
                               size_t model)
    : plan_(std::move(plan)), models_(std::move(models)), model_(model) {
  const int64_t vocabulary = plan_->vocabularies[model_];
  std::vector<bool> gives(models_.size(), false);
  for (const RowOf& r : plan_->models[model_].from) gives[r.model] = true;
  for (const TensorInfo& t : models_[model_]->tensors()) {
    tensors_.push_back(t);
    if (!is_embedding(t, vocabulary)) continue;
    auto table = std::make_unique<Table>();
    table->width = element_count(t.shape) / vocabulary;
    for (size_t m = 0; m < models_.size(); ++m) {
      table->of_model.push_back(gives[m] ? &models_[m]->get(t.name) : nullptr);
      if (!gives[m]) continue;
      Shape expected = t.shape;
      expected[0] = plan_->vocabularies[m];
      if (table->of_model[m]->shape == expected) continue;
      throw input_error("{}: tensor {} is {}, expected {} as in {} with vocab_size {}",
                        models_[m]->label(), t.name, to_string(table->of_model[m]->shape),
                        to_string(expected), label(), plan_->vocabularies[m]);
    }
    tensors_.back().shape[0] = plan_->rows();
    table->info = tensors_.back();
    tables_.push_back(std::move(table));
  }
  if (tables_.empty()) {
    throw input_error("{}: no embedding with vocab_size {} rows, so its vocabulary cannot change",
                      label(), vocabulary);
  }
}

void PermutedSource::read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const {
  for (const auto& table : tables_) {
    if (table->info.name == tensor.name) return read_table(*table, first, out);
  }
  models_[model_]->read(tensor, first, out);
}

ReadCost PermutedSource::read_cost(const TensorInfo& tensor) const {
  const auto found = std::ranges::find_if(
      tables_, [&](const auto& table) { return table->info.name == tensor.name; });
  if (found == tables_.end()) return models_[model_]->read_cost(tensor);
  ReadCost cost;
  for (size_t m = 0; m < models_.size(); ++m) {
    const TensorInfo* of_model = (*found)->of_model[m];
    if (!of_model) continue;
    const ReadCost whole = models_[m]->read_cost(*of_model);
    const auto rows = std::ranges::count(plan_->models[model_].from, m, &RowOf::model);
    const double share = static_cast<double>(rows) / static_cast<double>(of_model->shape[0]);
    cost.disk_bytes += static_cast<uint64_t>(share * static_cast<double>(whole.disk_bytes));
    cost.memory += whole.memory;
    std::ranges::copy(whole.places, std::back_inserter(cost.places));
  }
  return cost;
}

std::span<const RowOf> PermutedSource::rows_of(int64_t row) const {
  const ModelRows& rows = plan_->models[model_];
  const auto i = static_cast<size_t>(row);
  return std::span(rows.from).subspan(rows.begin[i], rows.begin[i + 1] - rows.begin[i]);
}

// How many rows from this one on, at most `most`, lie one after the other in one model with the
// same type: they can be read at once. 0: the row must be computed.
int64_t PermutedSource::copied_rows(const Table& table, int64_t row, int64_t most) const {
  const auto start = rows_of(row);
  if (start.size() != 1 || table.of_model[start[0].model]->dtype != table.info.dtype) return 0;
  int64_t n = 1;
  while (n < most) {
    const auto next = rows_of(row + n);
    const RowOf wanted{start[0].model, start[0].row + static_cast<int32_t>(n)};
    if (next.size() != 1 || next[0] != wanted) break;
    ++n;
  }
  return n;
}

void PermutedSource::read_table(const Table& table, int64_t first, std::span<std::byte> out) const {
  const size_t size = dtype_size(table.info.dtype);
  std::vector<float> mixed;
  std::vector<std::byte> stored;
  while (!out.empty()) {
    const int64_t row = first / table.width, column = first % table.width;
    const auto wanted = static_cast<int64_t>(out.size() / size);
    const int64_t last = (first + wanted - 1) / table.width;
    const int64_t copied = copied_rows(table, row, last - row + 1);
    const int64_t count = std::min(wanted, std::max<int64_t>(copied, 1) * table.width - column);
    const auto part = out.first(static_cast<size_t>(count) * size);
    const RowOf* from = copied > 0 ? &rows_of(row)[0] : nullptr;
    if (from) {
      models_[from->model]->read(*table.of_model[from->model], from->row * table.width + column,
                                 part);
    } else if (plan_->has_token[static_cast<size_t>(row)] && rows_of(row).empty()) {
      std::memset(part.data(), 0, part.size());
    } else {
      mixed.resize(static_cast<size_t>(table.width));
      stored.resize(mixed.size() * size);
      mix_row(table, row, mixed);
      narrow(mixed, table.info.dtype, stored.data());
      std::memcpy(part.data(), stored.data() + static_cast<size_t>(column) * size, part.size());
    }
    first += count;
    out = out.subspan(part.size());
  }
}

// One row that no model has as it is.
void PermutedSource::mix_row(const Table& table, int64_t row, std::span<float> out) const {
  if (!is_arithmetic(table.info.dtype)) {
    throw input_error(
        "{}: tensor {} is {}, of which no means can be taken for tokens that it lacks", label(),
        table.info.name, dtype_name(table.info.dtype));
  }
  if (!plan_->has_token[static_cast<size_t>(row)]) {
    const std::vector<float>& padding = padding_row(table);
    std::ranges::copy(padding, out.begin());
    return;
  }
  const auto rows = rows_of(row);
  std::vector<float> values(out.size());
  std::vector<std::byte> bytes;
  std::ranges::fill(out, 0.0f);
  for (const RowOf& from : rows) {
    const TensorInfo& tensor = *table.of_model[from.model];
    bytes.resize(values.size() * dtype_size(tensor.dtype));
    models_[from.model]->read(tensor, from.row * table.width, bytes);
    widen(tensor.dtype, bytes.data(), values);
    for (size_t i = 0; i < out.size(); ++i) out[i] += values[i];
  }
  for (float& value : out) value /= static_cast<float>(rows.size());
}

// Reads the whole table once, in pieces; in double, since there are many rows.
const std::vector<float>& PermutedSource::padding_row(const Table& table) const {
  std::call_once(table.once, [&] {
    std::vector<double> sum(static_cast<size_t>(table.width), 0.0);
    const int64_t piece = std::max<int64_t>(1, (1 << 18) / table.width);  // rows at a time
    std::vector<float> values;
    std::vector<std::byte> bytes;
    int64_t tokens = 0;
    for (int64_t row = 0, end; row < plan_->rows(); row = end) {
      const bool real = plan_->has_token[static_cast<size_t>(row)];
      for (end = row + 1; end < plan_->rows() && end - row < piece; ++end) {
        if (plan_->has_token[static_cast<size_t>(end)] != real) break;
      }
      if (!real) continue;
      values.resize(static_cast<size_t>((end - row) * table.width));
      bytes.resize(values.size() * dtype_size(table.info.dtype));
      read_table(table, row * table.width, bytes);
      widen(table.info.dtype, bytes.data(), values);
      for (size_t i = 0; i < values.size(); ++i) sum[i % sum.size()] += values[i];
      tokens += end - row;
    }
    for (const double s : sum)
      table.padding.push_back(static_cast<float>(s / static_cast<double>(tokens)));
  });
  return table.padding;
}

}  // namespace lewis
