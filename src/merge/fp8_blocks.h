// out_dtype: fp8_block. Matrices that the base stores as float8 with a scale per block are written
// so again.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/tensor_source.h"
#include "io/tensor_writer.h"
#include "merge/input_model.h"

namespace lewis {

// How one matrix is stored: E4M3 codes, and the factor of each block of rows x columns.
struct Fp8Matrix {
  TensorInfo codes, scale;
  int64_t rows = 0, columns = 0;  // of a block
  bool powers_of_two = false;     // the scales are such (scale_fmt ue8m0)
};
using Fp8Matrices = std::map<std::string, Fp8Matrix, std::less<>>;

// Error(kUsage) for a recipe whose out_dtype: fp8_block makes no sense.
void check_fp8(const Recipe& recipe);

// The float8 matrices of a model. Error(kUsage) for a model that has none, Error(kInput) that names
// a float8 tensor that is stored in another way than fp8_block writes.
Fp8Matrices find_fp8_matrices(const InputModel& model);

// The nearest E4M3 number, ties to even; what is larger than 448 becomes 448.
uint8_t float_to_f8e4m3(float value);

// The tensors that are written for `tensors`: codes and scales in place of each matrix.
std::vector<TensorInfo> with_fp8(const std::vector<TensorInfo>& tensors, const Fp8Matrices& fp8);

// Takes the matrices as F32 and gives a writer of with_fp8() their codes and scales. The scale of a
// block is its largest magnitude / 448 (DeepSeek-V3, arXiv 2412.19437, section 3.3.2), or the next
// power of two; a block of zeros has 1. A matrix whose values, rounded to bfloat16, are those that
// the base stands for is not encoded again: it gets the base's codes and scales bit for bit.
class Fp8Writer final : public TensorWriter {
 public:
  // `base`: what the base stores. All must outlive this.
  Fp8Writer(TensorWriter& inner, const std::vector<TensorInfo>& tensors, const Fp8Matrices& fp8,
            const QuantizedStore& base);

  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  bool is_done(size_t tensor) const override;
  size_t lead(size_t tensor, uint64_t offset) const override;
  void write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes) override;
  bool completes() override { return inner_.completes(); }
  std::filesystem::path readable() override { return inner_.readable(); }
  void add_file(const std::string& name, std::string_view content) override {
    inner_.add_file(name, content);
  }
  void add_note(const std::string& name, std::string_view content) override {
    inner_.add_note(name, content);
  }
  void commit(const Json& about) override { inner_.commit(about); }
  void keep_partial() override { inner_.keep_partial(); }
  uint64_t tensor_bytes() const override { return inner_.tensor_bytes(); }
  size_t shards() const override { return inner_.shards(); }
  WrittenState state() const override { return inner_.state(); }

  // What became of the matrices, one line; "" where none was written.
  std::string note() const;

 private:
  static constexpr size_t kNowhere = SIZE_MAX;
  struct Place {
    size_t codes = kNowhere, scale = kNowhere;  // of inner_; a worker may have to write one of them
    const Fp8Matrix* matrix = nullptr;          // null: passed on as it is
  };
  // A matrix whose values come in.
  struct Begun {
    std::vector<float> band;  // values of the rows that are not a whole row of blocks yet
    std::vector<std::byte> codes, scales;
    double error = 0, squares = 0;  // sums of squares
    bool differs = false;           // from the base
    uint64_t seen = 0;              // elements
  };

  void encode_band(const Fp8Matrix& matrix, std::span<const float> values, int64_t first_row,
                   Begun& begun);
  void compare(const Fp8Matrix& matrix, std::span<const float> values, int64_t first_row,
               Begun& begun) const;
  void finish(const Place& place, Begun& begun);
  void put(size_t tensor, std::span<const std::byte> bytes);

  TensorWriter& inner_;
  const QuantizedStore& base_;
  std::vector<TensorInfo> tensors_;
  std::vector<Place> places_;
  std::map<size_t, Begun> begun_;
  uint64_t encoded_ = 0, copied_ = 0;
  double error_ = 0, squares_ = 0, worst_ = 0;
  std::string worst_name_;
};

}  // namespace lewis
