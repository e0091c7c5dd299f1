// The pieces of rows and columns that a chunk holds.
#pragma once

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "merge/method.h"

namespace lewis {

// Calls f(row, begin, size) for each row of which the chunk has elements: [begin, begin + size) of
// the chunk.
template <typename F>
void for_rows(const TensorTask& task, const Chunk& chunk, const F& f) {
  const int64_t columns = task.columns();
  const auto size = static_cast<int64_t>(chunk.size());
  for (int64_t at = 0; at < size;) {
    const int64_t element = chunk.first + at;
    const int64_t end = std::min(size, at + columns - element % columns);
    f(element / columns, static_cast<size_t>(at), static_cast<size_t>(end - at));
    at = end;
  }
}

// Returns whether the chunk is the last of its slot.
inline bool chunk_ends_slot(const TensorTask& task, const ChunkPass& pass, const Chunk& chunk) {
  const int64_t end = chunk.first + static_cast<int64_t>(chunk.size());
  return end == task.count || end % pass.slot_elements() == 0;
}

// Objects that must outlast the chunks of a slot. A slot has one from its first chunk until it
// releases it; then another slot takes it over, in the state in which it was left.
template <typename T>
class SlotRooms {
 public:
  explicit SlotRooms(size_t slots) : taken_(slots) {}

  template <typename Make>
  T& of(size_t slot, const Make& make) {
    if (taken_[slot]) return *taken_[slot];
    std::lock_guard lock(mutex_);
    if (free_.empty()) free_.push_back(std::make_unique<T>(make()));
    taken_[slot] = std::move(free_.back());
    free_.pop_back();
    return *taken_[slot];
  }
  void release(size_t slot) {
    std::lock_guard lock(mutex_);
    free_.push_back(std::move(taken_[slot]));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<T>> taken_, free_;
};

// A column lies along the first dimension: element i belongs to column i % column_count.
inline int64_t column_count(const TensorTask& task) {
  return task.shape.empty() || task.shape[0] == 0 ? 1 : task.count / task.shape[0];
}

// Calls f(column, begin, size) for each run of consecutive columns that a chunk holds.
template <typename F>
void for_columns(const TensorTask& task, const Chunk& chunk, const F& f) {
  const int64_t columns = column_count(task);
  const auto size = static_cast<int64_t>(chunk.size());
  for (int64_t at = 0; at < size;) {
    const int64_t column = (chunk.first + at) % columns;
    const int64_t end = std::min(size, at + columns - column);
    f(static_cast<size_t>(column), static_cast<size_t>(at), static_cast<size_t>(end - at));
    at = end;
  }
}

}  // namespace lewis
