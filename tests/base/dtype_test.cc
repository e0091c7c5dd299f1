// Half precision against plain arithmetic on its definition (IEEE 754 binary16, bfloat16, OCP
// float8), over all values.
#include "base/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

namespace lewis {
namespace {

// sign, exponent and mantissa taken apart, put together by ldexp: exact.
double plain_value(uint32_t bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const double fraction =
      static_cast<double>(bits & ((1u << mantissa_bits) - 1)) / (1 << mantissa_bits);
  const double sign = bits >> (exponent_bits + mantissa_bits) & 1 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return fraction == 0 ? sign * INFINITY : NAN;
  return sign * (exponent == 0 ? std::ldexp(fraction, 1 - bias)
                               : std::ldexp(1 + fraction, exponent - bias));
}

void expect_same(float found, double expected, uint32_t bits) {
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(found)) << bits;
  } else {
    EXPECT_EQ(static_cast<double>(found), expected) << bits;
    EXPECT_EQ(std::signbit(found), std::signbit(expected)) << bits;
  }
}

TEST(Half, AllValuesWiden) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    expect_same(f16_to_float(static_cast<uint16_t>(bits)), plain_value(bits, 5, 10), bits);
    expect_same(bf16_to_float(static_cast<uint16_t>(bits)), plain_value(bits, 8, 7), bits);
  }
}

TEST(Half, RoundTripKeepsEveryValue) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto h = static_cast<uint16_t>(bits);
    const float f16 = f16_to_float(h), bf16 = bf16_to_float(h);
    if (std::isnan(f16)) {
      EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(f16))));
    } else {
      EXPECT_EQ(float_to_f16(f16), h);
    }
    if (std::isnan(bf16)) {
      EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(bf16))));
    } else {
      EXPECT_EQ(float_to_bf16(bf16), h);
    }
  }
}

// Between two neighbours a and b (b above a), the middle goes to the even one, the floats beside
// the middle to the nearer one.
template <typename Widen, typename Narrow>
void expect_nearest_even(uint16_t a, Widen widen_one, Narrow narrow_one) {
  const auto b = static_cast<uint16_t>(a + 1);
  const double middle = (static_cast<double>(widen_one(a)) + static_cast<double>(widen_one(b))) / 2;
  const auto m = static_cast<float>(middle);
  if (static_cast<double>(m) != middle) return;  // no float lies in the middle (bf16 denormals)
  EXPECT_EQ(narrow_one(m), a % 2 == 0 ? a : b) << a;
  EXPECT_EQ(narrow_one(-m), static_cast<uint16_t>((a % 2 == 0 ? a : b) | 0x8000)) << a;
  EXPECT_EQ(narrow_one(std::nextafter(m, 0.0f)), a) << a;
  EXPECT_EQ(narrow_one(std::nextafter(m, INFINITY)), b) << a;
}

TEST(Half, RoundsToNearestEvenBetweenAllNeighbours) {
  for (uint16_t a = 0; a < 0x7bff; ++a) expect_nearest_even(a, f16_to_float, float_to_f16);
  for (uint16_t a = 0; a < 0x7f7f; ++a) expect_nearest_even(a, bf16_to_float, float_to_bf16);
  EXPECT_EQ(float_to_f16(65519.996f), 0x7bff);
  EXPECT_EQ(float_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_bf16(3.3961775e38f), 0x7f80);
}

TEST(Half, NotANumberNeverBecomesInfinity) {
  const float quiet_less = std::bit_cast<float>(0x7f800001u);  // payload in the low bits alone
  EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(quiet_less))));
  EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(quiet_less))));
}

TEST(Float8, AllValuesWiden) {
  for (uint32_t bits = 0; bits < 256; ++bits) {
    expect_same(f8e5m2_to_float(static_cast<uint8_t>(bits)), plain_value(bits, 5, 2), bits);
    // E4M3 has no infinities: its top exponent holds numbers, but for the last pattern.
    const double sign = bits & 0x80 ? -1 : 1;
    const double plain = (bits & 0x7f) == 0x7f   ? NAN
                         : (bits & 0x78) == 0x78 ? sign * std::ldexp(1 + (bits & 7) / 8.0, 8)
                                                 : plain_value(bits, 4, 3);
    expect_same(f8e4m3_to_float(static_cast<uint8_t>(bits)), plain, bits);
  }
}

TEST(DType, NamesGoBothWays) {
  for (const char* name :
       {"F64",         "F32",         "F16",     "BF16",    "F8_E4M3", "F8_E5M2", "I64", "I32",
        "I16",         "I8",          "U8",      "BOOL",    "U16",     "U32",     "U64", "C64",
        "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0", "F6_E2M3", "F6_E3M2", "F4"}) {
    ASSERT_TRUE(dtype_from_name(name)) << name;
    EXPECT_EQ(dtype_name(*dtype_from_name(name)), name);
    EXPECT_EQ(visit_dtype(*dtype_from_name(name), [](auto zero) { return sizeof zero; }),
              dtype_size(*dtype_from_name(name)));
  }
  EXPECT_FALSE(dtype_from_name("F5"));
  EXPECT_EQ(dtype_from_torch_name("torch.bfloat16"), DType::kBF16);
  EXPECT_EQ(dtype_from_torch_name("float16"), DType::kF16);
}

// Elements smaller than a byte lie side by side; their storage is counted in bytes.
TEST(DType, SizesOfPackedElements) {
  const auto bytes = [](DType dtype, Shape shape) { return byte_size({"", dtype, shape}); };
  EXPECT_EQ(bytes(DType::kF4, {4, 2}), 4u);
  EXPECT_EQ(bytes(DType::kF6E2M3, {4, 2}), 6u);
  EXPECT_EQ(bytes(DType::kF6E3M2, {4}), 3u);
  EXPECT_EQ(bytes(DType::kF8E8M0, {4, 2}), 8u);
  EXPECT_EQ(bytes(DType::kC64, {4, 2}), 64u);
  EXPECT_EQ(bytes(DType::kF4, {int64_t{1} << 61, 2}), size_t{1} << 61);
  EXPECT_EQ(unit_count({"", DType::kF4, {4, 2}}), 4);
  EXPECT_EQ(unit_count({"", DType::kU16, {4, 2}}), 8);
  EXPECT_FALSE(is_arithmetic(DType::kF4) || is_arithmetic(DType::kU16));
}

TEST(DType, WidenAndNarrowArraysAtAnyAddress) {
  const std::vector<float> values = {0.0f, -0.0f, 1.0f, -2.5f, 1e-40f, 65504.0f};
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    std::vector<std::byte> stored(values.size() * dtype_size(dtype) + 1);
    narrow(values, dtype, stored.data() + 1);
    std::vector<float> back(values.size());
    widen(dtype, stored.data() + 1, back);
    for (size_t i = 0; i < 4; ++i)
      EXPECT_EQ(std::bit_cast<uint32_t>(back[i]), std::bit_cast<uint32_t>(values[i]));
  }
}

TEST(DType, WidenArraysOfFloat8AtAnyAddress) {
  std::vector<std::byte> codes(257);
  for (size_t i = 0; i < 256; ++i) codes[i + 1] = static_cast<std::byte>(i);
  std::vector<float> values(256);
  for (const DType dtype : {DType::kF8E4M3, DType::kF8E5M2}) {
    widen(dtype, codes.data() + 1, values);
    for (uint32_t b = 0; b < 256; ++b) {
      const auto code = static_cast<uint8_t>(b);
      expect_same(values[b],
                  static_cast<double>(dtype == DType::kF8E4M3 ? f8e4m3_to_float(code)
                                                              : f8e5m2_to_float(code)),
                  b);
    }
  }
}

TEST(AllFinite, FindsOneBadValue) {
  std::vector<float> values(1000, 1.5f);
  EXPECT_TRUE(all_finite(values));
  for (const float bad : {NAN, -INFINITY, INFINITY}) {
    values[777] = bad;
    EXPECT_FALSE(all_finite(values));
  }
}

}  // namespace
}  // namespace lewis
