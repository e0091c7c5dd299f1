#include <algorithm>

#include "model/sequence_state.h"
#include "model/transformer.h"

namespace lewis {

TokenBatch make_batch(std::span<const std::vector<int32_t>> sequences) {
  TokenBatch batch;
  size_t tokens = 0;
  for (const auto& ids : sequences) tokens += ids.size();
  batch.ids.reserve(tokens);  // what points to them stays true
  for (const auto& ids : sequences) {
    batch.sequences.push_back(
        {static_cast<int64_t>(batch.ids.size()), static_cast<int64_t>(ids.size()), 0, nullptr,
         batch.ids.data() + batch.ids.size(), std::make_shared<SequenceSide>()});
    batch.ids.insert(batch.ids.end(), ids.begin(), ids.end());
  }
  return batch;
}

std::vector<std::pair<size_t, size_t>> group_sequences(const TokenBatch& batch,
                                                       int64_t rows_per_group) {
  std::vector<std::pair<size_t, size_t>> groups;
  int64_t rows = 0;  // of the last group
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const int64_t more = batch.sequences[i].rows;
    if (groups.empty() || rows + more > rows_per_group) {
      groups.emplace_back(i, i);
      rows = 0;
    }
    groups.back().second = i + 1;
    rows += more;
  }
  return groups;
}

int64_t rows_of_groups(const Transformer& model, int64_t rows) {
  constexpr int64_t kTimes = 4;
  constexpr uint64_t kValueBytes = uint64_t{1} << 30;
  if (model.spec().experts.count == 0) return rows;
  int64_t many = rows;
  while (many < kTimes * rows && model.activation_bytes(2 * many) <= kValueBytes) many *= 2;
  return many;
}

ReadExperts experts_for(const Transformer& model, size_t groups) {
  if (groups < 2) return ReadExperts::kWhenUsed;
  for (int64_t layer = 0; layer < model.spec().layers; ++layer) {
    for (const LinearLayer& linear : linear_layers(model.spec(), layer)) {
      if (linear.expert < 0) continue;
      const ReadCost cost = model.source().read_cost(model.source().get(linear.tensor));
      // Merging holds the tensors of at least two models.
      return cost.memory >= model.stored_bytes(linear) ? ReadExperts::kWithBlock
                                                       : ReadExperts::kWhenUsed;
    }
  }
  return ReadExperts::kWhenUsed;
}

std::vector<float> run_layers(const Transformer& model, const TokenBatch& batch,
                              const ProgressFn& progress, int64_t rows_per_group) {
  const auto width = static_cast<size_t>(model.spec().hidden);
  std::vector<float> hidden(batch.ids.size() * width);
  model.embed_once(batch.ids, hidden);
  const auto groups = group_sequences(batch, rows_of_groups(model, rows_per_group));
  const ReadExperts experts = experts_for(model, groups.size());
  Progress done{"running the model", "tokens", 0,
                batch.ids.size() * static_cast<uint64_t>(model.spec().layers)};
  for (int64_t layer = 0; layer < model.spec().layers; ++layer) {
    const auto block = model.load_block(layer, {}, experts);
    model.read_ahead(layer + 1);
    for (const auto& [first, last] : groups) {
      std::vector<SequenceRows> sequences(
          batch.sequences.begin() + static_cast<std::ptrdiff_t>(first),
          batch.sequences.begin() + static_cast<std::ptrdiff_t>(last));
      const int64_t first_row = sequences.front().first_row;
      const int64_t rows = sequences.back().first_row + sequences.back().rows - first_row;
      for (SequenceRows& s : sequences) s.first_row -= first_row;
      model.run_block(*block, sequences,
                      std::span(hidden).subspan(static_cast<size_t>(first_row) * width,
                                                static_cast<size_t>(rows) * width));
      done.done += static_cast<uint64_t>(rows);
      if (progress) progress(done);
    }
  }
  return hidden;
}

}  // namespace lewis
