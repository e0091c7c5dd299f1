// Weights kept as they are stored: Backend::keep.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/threads.h"
#include "compute/backend.h"
#include "compute/cpu/bf16_kernels.h"
#include "plain_math.h"

namespace lewis {
namespace {

std::shared_ptr<const std::byte> stored(const std::vector<float>& values, DType dtype) {
  const auto bytes = std::make_shared<std::vector<std::byte>>(values.size() * dtype_size(dtype));
  narrow(values, dtype, bytes->data());
  return {bytes, bytes->data()};
}

struct Shape {
  int64_t in, out;
};
constexpr DType kTypes[] = {DType::kF32, DType::kBF16, DType::kF16};
constexpr ComputeType kComputeTypes[] = {ComputeType::kF32, ComputeType::kBF16};

// The inputs that the backend multiplies instead of these.
std::vector<float> multiplied(std::vector<float> x, ComputeType type, DType dtype,
                              const Shape& shape) {
  if (type == ComputeType::kBF16 && amx_bf16_kernels() && dtype == DType::kBF16 &&
      shape.in % 32 == 0 && shape.out >= 16) {
    for (float& v : x) v = bf16_to_float(float_to_bf16(v));
  }
  return x;
}

void expect_products(Backend& backend, const Shape& shape, DType dtype) {
  const auto [in, out] = shape;
  // Some values are so small that binary16 stores them as denormals.
  auto values = random_floats(out * in, 3, 0.1f);
  for (size_t i = 0; i < values.size(); i += 7) values[i] *= 1e-5f;
  const auto bytes = stored(values, dtype);
  widen(dtype, bytes.get(), values);
  const auto kept = backend.keep(dtype, bytes, out, in);
  EXPECT_EQ(kept->out, out);
  EXPECT_EQ(kept->in, in);
  const double tolerance = 1e-6 * std::sqrt(static_cast<double>(in)) + 1e-6;
  for (const int64_t rows : {1, 2, 3, 4, 5, 8, 9, 23, 150}) {
    const auto x = random_floats(rows * in, 1), bias = random_floats(out, 2);
    const auto used = multiplied(x, backend.compute_type(), dtype, shape);
    EXPECT_LT(largest_difference(linear(backend, *kept, bias, x),
                                 plain_linear(used, values, bias, rows, out, in)),
              tolerance)
        << rows << " " << in << " " << out << " " << dtype_name(dtype);
    EXPECT_LT(largest_difference(linear(backend, *kept, {}, x),
                                 plain_linear(used, values, {}, rows, out, in)),
              tolerance);
  }
}

TEST(StoredLinear, EqualsDoublePrecisionOnOddShapes) {
  Threads threads(2);
  for (const ComputeType type : kComputeTypes) {
    const auto backend = make_cpu_backend(threads, type);
    for (const Shape& shape : {Shape{1, 1},
                               {5, 7},
                               {16, 13},
                               {33, 64},
                               {100, 77},
                               {64, 16},
                               {64, 77},
                               {576, 1103},
                               {2049, 51}}) {
      for (const DType dtype : kTypes) expect_products(*backend, shape, dtype);
    }
  }
}

void expect_same_bits(ComputeType type, DType dtype, const Shape& shape) {
  const auto [in, out] = shape;
  const int64_t rows = 75;
  const auto bytes = stored(random_floats(out * in, 3), dtype);
  const auto x = random_floats(rows * in, 1);
  std::vector<float> all;
  for (const size_t count : {1u, 2u, 7u}) {
    Threads threads(count);
    const auto backend = make_cpu_backend(threads, type);
    const auto kept = backend->keep(dtype, bytes, out, in);
    const auto y = linear(*backend, *kept, {}, x);
    if (all.empty()) all = y;
    EXPECT_TRUE(y == all) << count;
    for (const int64_t part : {1, 2, 3, 4, 6, 8, 9, 31}) {
      for (const int64_t first : {int64_t{0}, int64_t{1}, rows - part}) {
        const std::vector<float> some(x.begin() + first * in, x.begin() + (first + part) * in);
        const auto z = linear(*backend, *kept, {}, some);
        EXPECT_EQ(std::memcmp(z.data(), all.data() + first * out, z.size() * sizeof(float)), 0)
            << part << " rows from " << first << ", " << dtype_name(dtype);
      }
    }
  }
}

TEST(StoredLinear, ARowDoesNotDependOnOtherRowsNorThreads) {
  for (const ComputeType type : kComputeTypes) {
    for (const DType dtype : kTypes) {
      for (const Shape& shape : {Shape{96, 1100}, Shape{2049, 1030}})
        expect_same_bits(type, dtype, shape);
    }
  }
}

TEST(StoredLinear, SeveralWeightsAtOnceAreEachAsAlone) {
  Threads threads(2);
  const auto backend = make_cpu_backend(threads, ComputeType::kBF16);
  const int64_t in = 608, rows = 3;
  const auto x = random_floats(rows * in, 1), bias = random_floats(400, 2);
  const auto a =
      backend->keep(DType::kBF16, stored(random_floats(400 * in, 3), DType::kBF16), 400, in);
  const auto b = backend->keep(DType::kF32, stored(random_floats(90 * in, 4), DType::kF32), 90, in);
  std::vector<float> y(rows * 400), z(rows * 90);
  const LinearCall calls[] = {{*a, bias, y.data()}, {*b, {}, z.data()}};
  backend->linear(calls, x.data(), rows);
  EXPECT_TRUE(y == linear(*backend, *a, bias, x));
  EXPECT_TRUE(z == linear(*backend, *b, {}, x));
  backend->linear(calls, x.data(), 0);
}

}  // namespace
}  // namespace lewis
