#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <numbers>
#include <sstream>

#include "base/error.h"
#include "base/threads.h"
#include "compute/backend.h"
#include "plain_math.h"

namespace lewis {
namespace {

std::vector<std::byte> stored(const std::vector<float>& values, DType dtype) {
  std::vector<std::byte> bytes(values.size() * dtype_size(dtype));
  narrow(values, dtype, bytes.data());
  return bytes;
}

struct LinearShape {
  int64_t rows, in, out;
};
const LinearShape kShapes[] = {{1, 1, 1},      {3, 5, 7},      {17, 33, 64},    {255, 64, 112},
                               {256, 112, 64}, {321, 100, 77}, {40, 576, 1100}, {1, 2049, 513}};

class CpuLinear : public testing::TestWithParam<ComputeType> {
 protected:
  // The values that the backend multiplies instead of these.
  static std::vector<float> rounded(std::vector<float> values) {
    if (GetParam() == ComputeType::kBF16) {
      for (float& v : values) v = bf16_to_float(float_to_bf16(v));
    }
    return values;
  }
};
INSTANTIATE_TEST_SUITE_P(All, CpuLinear, testing::Values(ComputeType::kF32, ComputeType::kBF16),
                         [](const auto& test) {
                           return std::string(compute_type_name(test.param));
                         });

// Compares with the system's list of the processor's instructions.
TEST(FasterComputeType, IsWhatTheListOfInstructionsPromises) {
  std::ifstream file("/proc/cpuinfo");
  std::stringstream text;
  text << file.rdbuf();
  const auto lists = [list = text.str()](const char* what) {
    return list.find(what) != std::string::npos;
  };
  const bool fast = lists("amx_bf16") || (lists("avx512_bf16") && lists("AuthenticAMD"));
  EXPECT_EQ(faster_compute_type(), fast ? ComputeType::kBF16 : ComputeType::kF32);
  Threads one(1);
  EXPECT_NO_THROW(make_cpu_backend(one, faster_compute_type()));
}

TEST_P(CpuLinear, EqualsDoublePrecisionOnOddShapes) {
  Threads threads(2);
  const auto backend = make_cpu_backend(threads, GetParam());
  for (const auto& [rows, in, out] : kShapes) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      const auto x = random_floats(rows * in, 1), bias = random_floats(out, 2);
      const auto bytes = stored(random_floats(out * in, 3, 0.1f), dtype);
      std::vector<float> weight(static_cast<size_t>(out * in));
      widen(dtype, bytes.data(), weight);
      weight = rounded(weight);
      const auto packed = backend->pack(dtype, bytes.data(), out, in);
      EXPECT_EQ(packed->out, out);
      EXPECT_EQ(packed->in, in);
      const double tolerance = 1e-6 * std::sqrt(static_cast<double>(in)) + 1e-6;
      EXPECT_LT(largest_difference(linear(*backend, *packed, bias, x),
                                   plain_linear(rounded(x), weight, bias, rows, out, in)),
                tolerance)
          << rows << " " << in << " " << out << " " << dtype_name(dtype);
      EXPECT_LT(largest_difference(linear(*backend, *packed, {}, x),
                                   plain_linear(rounded(x), weight, {}, rows, out, in)),
                tolerance);
    }
  }
}

constexpr DType kStoredTypes[] = {DType::kF32, DType::kBF16};

void expect_same_bits(ComputeType type, DType dtype, const LinearShape& shape) {
  const auto [rows, in, out] = shape;
  const auto x = random_floats(rows * in, 1);
  const auto weight = stored(random_floats(out * in, 3), dtype);
  std::vector<float> expected;
  for (const size_t count : {1u, 2u, 7u}) {
    Threads threads(count);
    const auto backend = make_cpu_backend(threads, type);
    const auto packed = backend->pack(dtype, weight.data(), out, in);
    const auto y = linear(*backend, *packed, {}, x);
    if (expected.empty()) expected = y;
    EXPECT_TRUE(y == expected) << count;
  }
}

TEST_P(CpuLinear, SameBitsForAnyNumberOfThreads) {
  for (const DType dtype : kStoredTypes) {
    for (const auto& shape : {LinearShape{700, 96, 1100}, LinearShape{5, 2049, 1030}})
      expect_same_bits(GetParam(), dtype, shape);
  }
}

void expect_rows_alone(Backend& backend, DType dtype, const LinearShape& shape) {
  const auto [rows, in, out] = shape;
  const auto packed =
      backend.pack(dtype, stored(random_floats(out * in, 3), dtype).data(), out, in);
  const auto x = random_floats(rows * in, 1);
  const auto all = linear(backend, *packed, {}, x);
  for (const int64_t part : {1, 2, 3, 7, 8, 16, 31, 33, 70}) {
    for (const int64_t first : {int64_t{0}, int64_t{1}, rows - part}) {
      const std::vector<float> some(x.begin() + first * in, x.begin() + (first + part) * in);
      const auto y = linear(backend, *packed, {}, some);
      EXPECT_EQ(std::memcmp(y.data(), all.data() + first * out, y.size() * sizeof(float)), 0)
          << part << " rows from " << first << " of " << rows << ", in " << in << ", out " << out;
    }
  }
}

// The tokens of a prompt must not depend on the other prompts of its batch.
TEST_P(CpuLinear, ARowDoesNotDependOnTheOtherRows) {
  Threads threads(2);
  const auto backend = make_cpu_backend(threads, GetParam());
  for (const DType dtype : kStoredTypes) {
    for (const auto& shape : {LinearShape{600, 96, 130}, LinearShape{330, 2049, 77},
                              LinearShape{90, 1536, 576}, LinearShape{200, 5000, 200}})
      expect_rows_alone(*backend, dtype, shape);
  }
}

TEST_P(CpuLinear, SeveralWeightsOfTheSameInputsAreOneCall) {
  Threads threads(2);
  const auto backend = make_cpu_backend(threads, GetParam());
  const int64_t rows = 301, in = 96;
  const auto x = random_floats(rows * in, 1), bias = random_floats(700, 2);
  std::vector<std::unique_ptr<PackedWeight>> weights;
  for (const auto& [out, dtype] : {std::pair{700, DType::kF32}, {33, DType::kBF16}}) {
    const auto bytes = stored(random_floats(out * in, 3), dtype);
    weights.push_back(backend->pack(dtype, bytes.data(), out, in));
  }
  std::vector<float> a(static_cast<size_t>(rows * 700)), b(static_cast<size_t>(rows * 33));
  backend->linear(
      std::array{LinearCall{*weights[0], bias, a.data()}, LinearCall{*weights[1], {}, b.data()}},
      x.data(), rows);
  EXPECT_TRUE(a == linear(*backend, *weights[0], bias, x));
  EXPECT_TRUE(b == linear(*backend, *weights[1], {}, x));
}

void expect_gate_apart(Backend& backend, const LinearShape& shape, DType gate_type, DType up_type,
                       bool packed) {
  const auto [rows, in, out] = shape;
  const auto x = random_floats(rows * in, 1), bias = random_floats(out, 2);
  const auto gate_bytes = stored(random_floats(out * in, 3), gate_type);
  const auto up_bytes = stored(random_floats(out * in, 4), up_type);
  const auto weight = [&](DType dtype, const std::vector<std::byte>& bytes) {
    if (packed) return backend.pack(dtype, bytes.data(), shape.out, shape.in);
    return backend.keep(dtype, {std::shared_ptr<void>(), bytes.data()}, shape.out, shape.in);
  };
  const auto gate_weight = weight(gate_type, gate_bytes), up = weight(up_type, up_bytes);
  const Gate gate{*gate_weight, bias, Activation::kGeluTanh};
  std::vector<float> y(static_cast<size_t>(rows * out));
  const LinearCall call{*up, bias, y.data(), &gate};
  backend.linear(std::span(&call, 1), x.data(), rows);
  auto expected = linear(backend, *gate_weight, bias, x);
  const auto values = linear(backend, *up, bias, x);
  backend.activate(Activation::kGeluTanh, expected.data(), values.data(), rows * out);
  EXPECT_TRUE(y == expected) << rows << " " << in << " " << out << " " << packed << " "
                             << dtype_name(gate_type) << " " << dtype_name(up_type);
}

// Tiles that fit one panel and tiles that do not, with and without rows left over.
TEST_P(CpuLinear, AGateIsAProductOfItsOwn) {
  Threads threads(2);
  const auto backend = make_cpu_backend(threads, GetParam());
  for (const auto& shape :
       {LinearShape{1, 32, 40}, LinearShape{301, 96, 700}, LinearShape{140, 1030, 2600}}) {
    for (const DType gate_type : kStoredTypes) {
      for (const DType up_type : kStoredTypes) {
        for (const bool packed : {true, false})
          expect_gate_apart(*backend, shape, gate_type, up_type, packed);
      }
    }
  }
}

TEST(CpuBackend, NoRowsIsNothing) {
  Threads threads(2);
  const auto backend = make_cpu_backend(threads);
  const auto packed =
      backend->pack(DType::kF32, stored(random_floats(6, 3), DType::kF32).data(), 2, 3);
  EXPECT_TRUE(linear(*backend, *packed, {}, {}).empty());
}

TEST(CpuRmsNorm, EqualsDoublePrecision) {
  Threads threads(2);
  const auto backend = make_cpu_backend(threads);
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{1, 1}, {3, 37}, {400, 576}}) {
    auto x = random_floats(rows * columns, 1, 3);
    const auto weight = random_floats(columns, 2);
    std::vector<double> expected;
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (int64_t i = 0; i < columns; ++i)
        sum += std::pow(static_cast<double>(x[r * columns + i]), 2);
      const double factor = 1 / std::sqrt(sum / static_cast<double>(columns) + 1e-5);
      for (int64_t i = 0; i < columns; ++i) {
        expected.push_back(static_cast<double>(x[r * columns + i]) * factor *
                           static_cast<double>(weight[i]));
      }
    }
    std::vector<float> y(x.size());
    backend->rms_norm(x.data(), rows, columns, weight, 1e-5f, y.data());
    EXPECT_LT(largest_difference(y, expected), 1e-5);
    backend->rms_norm(x.data(), rows, columns, weight, 1e-5f, x.data());  // in place
    EXPECT_TRUE(x == y);
  }
}

TEST(CpuLayerNorm, EqualsDoublePrecision) {
  Threads threads(2);
  const auto backend = make_cpu_backend(threads);
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{1, 2}, {3, 37}, {400, 576}}) {
    auto x = random_floats(rows * columns, 1, 3);
    for (float& v : x) v += 2;  // a mean that matters
    const auto weight = random_floats(columns, 2), bias = random_floats(columns, 3);
    for (const bool with_bias : {true, false}) {
      std::vector<double> expected;
      const auto n = static_cast<double>(columns);
      for (int64_t r = 0; r < rows; ++r) {
        const std::vector<double> row(x.begin() + r * columns, x.begin() + (r + 1) * columns);
        double mean = 0, variance = 0;
        for (const double v : row) mean += v / n;
        for (const double v : row) variance += (v - mean) * (v - mean) / n;
        for (int64_t i = 0; i < columns; ++i) {
          expected.push_back((row[i] - mean) / std::sqrt(variance + 1e-5) *
                                 static_cast<double>(weight[i]) +
                             (with_bias ? static_cast<double>(bias[i]) : 0));
        }
      }
      std::vector<float> y(x.size());
      const auto given = with_bias ? std::span<const float>(bias) : std::span<const float>();
      backend->layer_norm(x.data(), rows, columns, weight, given, 1e-5f, y.data());
      EXPECT_LT(largest_difference(y, expected), 1e-5);
      auto in_place = x;
      backend->layer_norm(in_place.data(), rows, columns, weight, given, 1e-5f, in_place.data());
      EXPECT_TRUE(in_place == y);
    }
  }
}

struct RopeShape {
  int64_t head_dim, half;
  RopePairs pairs;
};

TEST(CpuRope, RotatesItsPairsAndLeavesTheRest) {
  Threads threads(2);
  const auto backend = make_cpu_backend(threads);
  for (const auto& [head_dim, half, pairs] : {RopeShape{2, 1, RopePairs::kHalves},
                                              {24, 12, RopePairs::kHalves},
                                              {64, 32, RopePairs::kHalves},
                                              {80, 19, RopePairs::kHalves},
                                              {24, 12, RopePairs::kNeighbours},
                                              {80, 19, RopePairs::kNeighbours}}) {
    const bool halves = pairs == RopePairs::kHalves;
    const int64_t rows = 70, heads = 3;
    std::vector<float> frequency;
    for (int64_t i = 0; i < half; ++i) frequency.push_back(std::pow(0.1f, static_cast<float>(i)));
    std::vector<int64_t> positions;
    for (int64_t r = 0; r < rows; ++r) positions.push_back(r * 7 % 301);
    auto x = random_floats(rows * heads * head_dim, 5);
    std::vector<double> expected(x.begin(), x.end());
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t i = 0; i < half; ++i) {
          const double angle =
              static_cast<double>(positions[r]) * static_cast<double>(frequency[i]);
          double* head = expected.data() + (r * heads + h) * head_dim;
          const int64_t first = halves ? i : 2 * i, second = halves ? i + half : 2 * i + 1;
          const double a = head[first], b = head[second], c = 1.5 * std::cos(angle),
                       s = 1.5 * std::sin(angle);
          head[first] = a * c - b * s;
          head[second] = b * c + a * s;
        }
      }
    }
    backend->rope(x.data(), rows, heads, head_dim, positions, frequency, 1.5f, pairs);
    EXPECT_LT(largest_difference(x, expected), 1e-4) << head_dim;
  }
}

double plain_activation(Activation activation, double x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kGelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::kRelu:
      return std::max(x, 0.0);
    case Activation::kRelu2:
      return std::max(x, 0.0) * std::max(x, 0.0);
    case Activation::kGeluTanh:
      break;
  }
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

TEST(CpuActivate, EqualsDoublePrecisionOverTheWholeRange) {
  Threads threads(2);
  const auto backend = make_cpu_backend(threads);
  std::vector<float> x;
  for (float v = -200; v < 200; v += 0.013f) x.push_back(v);
  for (const float v : {0.0f, -0.0f, 1e-30f, -1e-30f, 1e10f, -1e10f}) x.push_back(v);
  const auto n = static_cast<int64_t>(x.size());
  const auto up = random_floats(n, 4);
  for (const auto activation : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh,
                                Activation::kRelu, Activation::kRelu2}) {
    // Gelu's tail is a difference of nearly equal numbers.
    const double small = activation == Activation::kSilu ? 1e-30 : 5e-7;
    std::vector<float> gate = x, alone = x;
    backend->activate(activation, gate.data(), up.data(), n);
    backend->activate(activation, alone.data(), nullptr, n);
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = plain_activation(activation, static_cast<double>(x[i]));
      EXPECT_NEAR(alone[i], expected, 1e-6 * std::abs(expected) + small) << x[i];
      EXPECT_EQ(gate[i], alone[i] * up[i]) << x[i];
    }
  }
}

TEST(CpuSoftcap, EqualsDoublePrecision) {
  Threads threads(2);
  const auto backend = make_cpu_backend(threads);
  std::vector<float> x;
  for (float v = -300; v < 300; v += 0.0137f) x.push_back(v);
  for (const float v : {0.0f, 1e-20f, 1e30f, -1e30f}) x.push_back(v);
  for (const float cap : {0.5f, 5.0f, 50.0f}) {
    auto y = x;
    backend->softcap(y.data(), cap, static_cast<int64_t>(y.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      const auto c = static_cast<double>(cap);
      const double expected = c * std::tanh(static_cast<double>(x[i]) / c);
      EXPECT_NEAR(y[i], expected, 1e-6 * std::abs(expected)) << x[i] << " " << cap;
    }
  }
}

TEST(CpuActivate, NanStaysNan) {
  Threads threads(1);
  const auto backend = make_cpu_backend(threads);
  std::vector<float> gate(40, 1.0f), up(40, 1.0f);
  gate[3] = up[7] = gate[38] = std::numeric_limits<float>::quiet_NaN();
  backend->activate(Activation::kSilu, gate.data(), up.data(), 40);
  for (size_t i = 0; i < 40; ++i) EXPECT_EQ(std::isnan(gate[i]), i == 3 || i == 7 || i == 38) << i;
}

TEST(CpuAdd, AddsAndScalesInPlace) {
  Threads threads(2);
  const auto backend = make_cpu_backend(threads);
  for (const int64_t n : {1, 37, 100'003}) {
    auto x = random_floats(n, 1);
    const auto y = random_floats(n, 2), before = x;
    backend->add(x.data(), y.data(), n);
    for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(x[i], before[i] + y[i]);
    backend->scale(x.data(), 0.3f, n);
    for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(x[i], (before[i] + y[i]) * 0.3f);
  }
}

struct Sequence {
  int64_t first_position, queries;
};
struct AttentionInput {
  std::vector<float> q, k, v;
  std::vector<AttentionRows> rows;
};
AttentionInput attention_input(const AttentionShape& s, const std::vector<Sequence>& sequences) {
  int64_t queries = 0, keys = 0;
  for (const Sequence& sequence : sequences) {
    queries += sequence.queries;
    keys += sequence.first_position + sequence.queries;
  }
  const int64_t kv = s.kv_heads * s.head_dim;
  AttentionInput in{random_floats(queries * s.heads * s.head_dim, 1, 2),
                    random_floats(keys * kv, 2),
                    random_floats(keys * kv, 3),
                    {}};
  queries = keys = 0;
  for (const Sequence& sequence : sequences) {
    in.rows.push_back({queries, sequence.queries, in.k.data() + keys * kv, in.v.data() + keys * kv,
                       sequence.first_position});
    queries += sequence.queries;
    keys += sequence.first_position + sequence.queries;
  }
  return in;
}

constexpr std::array<float, 4> kSinks = {0.3f, -40, 2.5f, 30};
const AttentionShape kAttentionShapes[] = {{4, 2, 16, 0.25f, 0, 0, 0, kSinks},
                                           {4, 1, 24, 0.2f, 40, 0, 0, kSinks},
                                           {4, 2, 16, 0.25f, 0, 0, 13},
                                           {9, 3, 64, 0.125f, 100, 0, 64},
                                           {8, 1, 10, 0.3f, 0, 0, 1},
                                           {4, 2, 16, 0.25f},
                                           {3, 3, 24, 0.2f},
                                           {9, 3, 64, 0.125f},
                                           {8, 1, 10, 0.3f},
                                           {4, 2, 16, 0.25f, 7},
                                           {8, 1, 10, 0.3f, 1, 2.0f},
                                           {9, 3, 64, 0.125f, 130},
                                           {3, 3, 24, 0.2f, 0, 0.7f},
                                           {4, 2, 16, 0.25f, 100'000}};
// Covers sequences longer than a tile of queries and one of keys, one query, few, none, and queries
// that follow cached keys.
const std::vector<Sequence> kSequences = {{0, 1},   {0, 5},   {0, 0},   {37, 1},
                                          {600, 3}, {0, 131}, {500, 45}};

TEST(CpuAttention, EqualsDoublePrecision) {
  Threads threads(2);
  const auto backend = make_cpu_backend(threads);
  for (const AttentionShape& shape : kAttentionShapes) {
    const auto in = attention_input(shape, kSequences);
    std::vector<float> out(in.q.size(), NAN);
    backend->attention(shape, in.rows, in.q.data(), out.data());
    std::vector<double> expected;
    for (const AttentionRows& r : in.rows) {
      const auto one = plain_attention(shape, r.first_position, r.queries,
                                       in.q.data() + r.first_query * shape.heads * shape.head_dim,
                                       r.keys, r.values);
      expected.insert(expected.end(), one.begin(), one.end());
    }
    EXPECT_LT(largest_difference(out, expected), 1e-5) << shape.head_dim;
  }
}

constexpr ComputeType kComputeTypes[] = {ComputeType::kF32, ComputeType::kBF16};
std::vector<float> rounded_bf16(std::span<const float> values, float factor = 1) {
  std::vector<float> rounded;
  for (const float v : values) rounded.push_back(bf16_to_float(float_to_bf16(v * factor)));
  return rounded;
}

// Compares with plain attention on rounded factors. The weights of the softmax are rounded too,
// which changes each by a 512th at most.
TEST(CpuAttention, InBf16EqualsDoublePrecisionOfRoundedFactors) {
  Threads threads(2);
  const auto backend = make_cpu_backend(threads, ComputeType::kBF16);
  for (const AttentionShape& shape : kAttentionShapes) {
    const auto in = attention_input(shape, kSequences);
    std::vector<float> out(in.q.size(), NAN);
    backend->attention(shape, in.rows, in.q.data(), out.data());
    AttentionShape unscaled = shape;
    unscaled.scale = 1;
    for (const AttentionRows& r : in.rows) {
      if (r.queries <= 4) continue;  // not rounded
      const auto begin = static_cast<size_t>(r.first_query * shape.heads * shape.head_dim);
      const auto n = static_cast<size_t>(r.queries * shape.heads * shape.head_dim);
      const auto kv =
          static_cast<size_t>((r.first_position + r.queries) * shape.kv_heads * shape.head_dim);
      const auto expected =
          plain_attention(unscaled, r.first_position, r.queries,
                          rounded_bf16(std::span(in.q).subspan(begin, n), shape.scale).data(),
                          rounded_bf16({r.keys, kv}).data(), rounded_bf16({r.values, kv}).data());
      const float largest = *std::max_element(
          r.values, r.values + kv, [](float a, float b) { return std::abs(a) < std::abs(b); });
      EXPECT_LT(largest_difference({out.begin() + begin, out.begin() + begin + n}, expected),
                0x1p-9 * std::abs(largest))
          << shape.head_dim << " " << r.queries;
    }
  }
}

// Keys before the window may have any value, because they are not read.
TEST(CpuAttention, KeysOutsideTheWindowAreNotTouched) {
  Threads threads(2);
  for (const ComputeType type : kComputeTypes) {
    const auto backend = make_cpu_backend(threads, type);
    for (const Sequence sequence : {Sequence{600, 3}, Sequence{700, 200}}) {
      const AttentionShape shape{4, 2, 16, 0.25f, 40};
      auto in = attention_input(shape, {sequence});
      std::vector<float> expected(in.q.size()), out(in.q.size());
      backend->attention(shape, in.rows, in.q.data(), expected.data());
      const auto first_seen = static_cast<std::ptrdiff_t>((sequence.first_position - 39) * 32);
      std::fill(in.k.begin(), in.k.begin() + first_seen, NAN);
      std::fill(in.v.begin(), in.v.begin() + first_seen, NAN);
      backend->attention(shape, in.rows, in.q.data(), out.data());
      EXPECT_TRUE(out == expected);
    }
  }
}

TEST(CpuAttention, LargeScoresDoNotOverflow) {
  Threads threads(1);
  const AttentionShape shape{2, 1, 8, 300.0f};
  const auto in = attention_input(shape, {{0, 90}, {0, 2}});
  for (const ComputeType type : kComputeTypes) {
    const auto backend = make_cpu_backend(threads, type);
    std::vector<float> out(in.q.size(), NAN);
    backend->attention(shape, in.rows, in.q.data(), out.data());
    for (const float x : out) EXPECT_TRUE(std::isfinite(x));
  }
}

TEST(CpuAttention, SameBitsForAnyThreadsAndAloneAsInABatch) {
  for (const ComputeType type : kComputeTypes) {
    for (const AttentionShape& shape : kAttentionShapes) {
      const auto in = attention_input(shape, kSequences);
      std::vector<float> expected;
      for (const size_t count : {1u, 2u, 7u}) {
        Threads threads(count);
        const auto backend = make_cpu_backend(threads, type);
        std::vector<float> out(in.q.size(), NAN);
        backend->attention(shape, in.rows, in.q.data(), out.data());
        if (expected.empty()) expected = out;
        EXPECT_TRUE(out == expected);
        for (AttentionRows rows : in.rows) {
          const int64_t begin = rows.first_query * shape.heads * shape.head_dim;
          std::vector<float> alone(
              static_cast<size_t>(rows.queries * shape.heads * shape.head_dim));
          rows.first_query = 0;
          backend->attention(shape, {&rows, 1}, in.q.data() + begin, alone.data());
          EXPECT_TRUE(std::equal(alone.begin(), alone.end(), expected.begin() + begin));
        }
      }
    }
  }
}

}  // namespace
}  // namespace lewis
