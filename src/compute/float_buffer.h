// Working memory that is allocated once and reused, because page faults of fresh memory cost as
// much as a small multiplication.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace lewis {

class FloatBuffer {
 public:
  // Returns at least `count` floats, aligned to a cache line, with arbitrary content.
  float* get(int64_t count) {
    if (count > capacity_) {
      data_.reset();
      capacity_ = 0;
      data_.reset(static_cast<float*>(
          ::operator new(static_cast<size_t>(count) * sizeof(float), kAlignment)));
      capacity_ = count;
    }
    return data_.get();
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Free {
    void operator()(float* p) const { ::operator delete(p, kAlignment); }
  };
  std::unique_ptr<float, Free> data_;
  int64_t capacity_ = 0;
};

}  // namespace lewis
