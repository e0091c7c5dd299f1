// The blocks of GGUF against ggml itself (tests/data/golden/gguf/make_ggml_blocks.py).
#include "io/gguf_types.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "base/error.h"
#include "base/hash.h"
#include "io/safetensors.h"

namespace lewis {
namespace {

constexpr size_t kRows = 8, kColumns = 512;

class GgufBlocks : public testing::TestWithParam<GgufTypeInfo> {
 protected:
  std::vector<std::byte> golden(const std::string& name) const {
    const auto* entry = file_.find(name);
    if (!entry) throw failed_error("no {}", name);
    std::vector<std::byte> bytes(byte_size(entry->info));
    file_.read(*entry, 0, bytes);
    return bytes;
  }
  std::vector<float> floats(const std::string& name) const {
    const std::vector<std::byte> bytes = golden(name);
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  std::vector<std::byte> encoded(std::span<const float> importances) const {
    const std::vector<float> x = floats("values");
    const uint64_t row = gguf_bytes(GetParam().type, kColumns);
    std::vector<std::byte> out(kRows * row);
    for (size_t r = 0; r < kRows; ++r) {
      encode_gguf(GetParam().type, std::span(x).subspan(r * kColumns, kColumns), importances,
                  out.data() + r * row);
    }
    return out;
  }

  const SafetensorsFile file_{std::filesystem::path(LEWIS_TEST_DATA) /
                              "golden/gguf/ggml_blocks.safetensors"};
};

void expect_same(const std::vector<std::byte>& found, const std::vector<std::byte>& wanted,
                 uint64_t block) {
  ASSERT_EQ(found.size(), wanted.size());
  for (size_t i = 0; i < found.size(); ++i)
    ASSERT_EQ(found[i], wanted[i]) << "block " << i / block << ", byte " << i % block;
}

TEST_P(GgufBlocks, AreThoseOfGgml) {
  const std::string name(GetParam().name);
  if (GetParam().type == GgufType::kQ2_K || GetParam().type == GgufType::kQ3_K) {
    EXPECT_THROW(encoded({}), Error) << "is only read";
    return;
  }
  expect_same(encoded({}), golden(name + ".plain"), GetParam().bytes);
  expect_same(encoded(floats("importances")), golden(name + ".weighted"), GetParam().bytes);
}

TEST_P(GgufBlocks, StandForTheNumbersOfGgml) {
  const std::string name(GetParam().name);
  const std::vector<std::byte> blocks = golden(name + ".plain");
  std::vector<float> values(kRows * kColumns);
  decode_gguf(GetParam().type, blocks.data(), values);
  std::string hash;
  for (const std::byte b : golden(name + ".decoded"))
    hash += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  const std::string_view bits(reinterpret_cast<const char*>(values.data()),
                              values.size() * sizeof(float));
  EXPECT_EQ(sha256_hex(bits), hash);
}

// A row whose blocks do not fill the eight lanes, and numbers that have no scale.
TEST_P(GgufBlocks, OneBlockIsThatOfALongRow) {
  if (GetParam().type == GgufType::kQ2_K || GetParam().type == GgufType::kQ3_K) return;
  const auto block = static_cast<size_t>(GetParam().block);
  std::mt19937 draw(1);
  std::vector<float> x(9 * block);
  for (float& v : x) v = std::ldexp(static_cast<float>(draw() % 2001) - 1000, -12);
  for (const float tiny : {0.0f, 1e-45f, -1e-38f}) {
    std::fill_n(x.begin() + static_cast<std::ptrdiff_t>(8 * block), block, tiny);
    std::vector<std::byte> row(9 * GetParam().bytes), alone(GetParam().bytes);
    encode_gguf(GetParam().type, x, {}, row.data());
    encode_gguf(GetParam().type, std::span(x).subspan(8 * block), {}, alone.data());
    EXPECT_EQ(std::memcmp(&row[8 * GetParam().bytes], alone.data(), alone.size()), 0) << tiny;
    std::vector<float> back(block);
    decode_gguf(GetParam().type, alone.data(), back);
    for (const float v : back) EXPECT_LT(std::abs(v), 1e-6f) << tiny;
  }
}

std::vector<GgufTypeInfo> types_with_blocks() {
  std::vector<GgufTypeInfo> rows;
  for (const GgufTypeInfo& row : gguf_types()) {
    if (row.block > 1) rows.push_back(row);
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(All, GgufBlocks, testing::ValuesIn(types_with_blocks()),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace lewis
