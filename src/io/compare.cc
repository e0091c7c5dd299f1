#include "io/compare.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace lewis {
namespace {

constexpr int64_t kPiece = 1 << 18;  // elements

std::vector<float> read_piece(const TensorSource& source, const TensorInfo& tensor, int64_t first,
                              int64_t count) {
  std::vector<std::byte> bytes(static_cast<size_t>(count) * dtype_size(tensor.dtype));
  source.read(tensor, first, bytes);
  std::vector<float> values(static_cast<size_t>(count));
  widen(tensor.dtype, bytes.data(), values);
  return values;
}

void require_arithmetic(const TensorSource& source, const TensorInfo& tensor) {
  if (is_arithmetic(tensor.dtype)) return;
  throw input_error("{}: tensor {} is {}, expected F32, F16 or BF16", source.label(), tensor.name,
                    dtype_name(tensor.dtype));
}

// Calls f(piece, first, count) for pieces of the first `count` elements, on all threads.
template <typename F>
void for_pieces(int64_t count, Threads& threads, const F& f) {
  threads.run(static_cast<size_t>((count + kPiece - 1) / kPiece), [&](size_t p) {
    const int64_t first = static_cast<int64_t>(p) * kPiece;
    f(p, first, std::min(kPiece, count - first));
  });
}

}  // namespace

TensorDifference& TensorDifference::operator+=(const TensorDifference& o) {
  norm_a = std::hypot(norm_a, o.norm_a);
  norm_b = std::hypot(norm_b, o.norm_b);
  norm_difference = std::hypot(norm_difference, o.norm_difference);
  dot += o.dot;
  equal += o.equal;
  count += o.count;
  return *this;
}

TensorDifference compare_tensors(const TensorSource& a, const TensorSource& b,
                                 std::string_view name, int64_t limit, Threads& threads) {
  const TensorInfo &in_a = a.get(name), &in_b = b.get(name);
  require_arithmetic(a, in_a);
  require_arithmetic(b, in_b);
  if (in_a.shape != in_b.shape) {
    throw input_error("tensor {} is {} in {} but {} in {}", name, to_string(in_a.shape), a.label(),
                      to_string(in_b.shape), b.label());
  }
  const int64_t all = element_count(in_a.shape);
  const int64_t count = limit > 0 ? std::min(limit, all) : all;
  std::vector<TensorDifference> parts(static_cast<size_t>((count + kPiece - 1) / kPiece));
  for_pieces(count, threads, [&](size_t p, int64_t first, int64_t n) {
    const auto x = read_piece(a, in_a, first, n), y = read_piece(b, in_b, first, n);
    TensorDifference& d = parts[p];
    for (size_t i = 0; i < x.size(); ++i) {
      const double u = x[i], v = y[i];
      d.norm_a += u * u;
      d.norm_b += v * v;
      d.norm_difference += (v - u) * (v - u);
      d.dot += u * v;
      d.equal += u == v;
    }
    d.count = n;
    for (double* norm : {&d.norm_a, &d.norm_b, &d.norm_difference}) *norm = std::sqrt(*norm);
  });
  TensorDifference sum;
  for (const TensorDifference& part : parts) sum += part;
  return sum;
}

bool same_bytes(const TensorSource& a, const TensorSource& b, std::string_view name) {
  const TensorInfo &in_a = a.get(name), &in_b = b.get(name);
  const int64_t all = unit_count(in_a);
  std::vector<std::byte> x, y;
  for (int64_t first = 0; first < all; first += kPiece) {
    const auto bytes = static_cast<size_t>(std::min(kPiece, all - first)) * dtype_size(in_a.dtype);
    x.resize(bytes);
    y.resize(bytes);
    a.read(in_a, first, x);
    b.read(in_b, first, y);
    if (x != y) return false;
  }
  return true;
}

TensorSummary summarize(const TensorSource& source, const TensorInfo& tensor, Threads& threads) {
  require_arithmetic(source, tensor);
  const int64_t count = element_count(tensor.shape);
  struct Part {
    double min = INFINITY, max = -INFINITY, sum = 0, squares = 0;
    int64_t zeros = 0, not_finite = 0;
  };
  std::vector<Part> parts(static_cast<size_t>((count + kPiece - 1) / kPiece));
  for_pieces(count, threads, [&](size_t p, int64_t first, int64_t n) {
    Part& part = parts[p];
    for (const float value : read_piece(source, tensor, first, n)) {
      if (!std::isfinite(value)) {
        ++part.not_finite;
        continue;
      }
      const double v = value;
      part.min = std::min(part.min, v);
      part.max = std::max(part.max, v);
      part.sum += v;
      part.squares += v * v;
      part.zeros += v == 0;
    }
  });
  Part all;
  for (const Part& part : parts) {
    all.min = std::min(all.min, part.min);
    all.max = std::max(all.max, part.max);
    all.sum += part.sum;
    all.squares += part.squares;
    all.zeros += part.zeros;
    all.not_finite += part.not_finite;
  }
  TensorSummary s{.zeros = all.zeros, .not_finite = all.not_finite, .count = count};
  const auto finite = static_cast<double>(count - all.not_finite);
  if (finite == 0) return s;
  s.min = all.min;
  s.max = all.max;
  s.mean = all.sum / finite;
  s.deviation = std::sqrt(std::max(0.0, all.squares / finite - s.mean * s.mean));
  return s;
}

}  // namespace lewis
