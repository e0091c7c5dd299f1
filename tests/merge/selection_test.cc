// Which entries are kept: by rank, and as bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "base/error.h"
#include "merge/selection/flags.h"
#include "merge/selection/ranks.h"
#include "merge/selection/sparsify.h"
#include "merge/selection/top_k.h"
#include "plain_methods.h"

namespace lewis {
namespace {

TestTensor tensor(size_t n, size_t models, Spread spread) {
  TestTensor t(n, models);
  fill(t, spread, static_cast<uint32_t>(n + models));
  return t;
}

// Larger entries are kept more often, by the probabilities of their ranks; the seed decides.
TEST(Della, KeepsByRankWithinTheRow) {
  const int64_t rows = 3000, columns = 5;
  TestTensor t = tensor(static_cast<size_t>(rows * columns), 1, Spread::kNormal);
  t.task.shape = {rows, columns};
  t.task.set("rescale", 0);
  t.task.models[0].set("density", 0.5);
  t.task.models[0].set("epsilon", 0.4);
  const Vector d = plain_delta(t, 0);
  const auto merged = t.merge("della_linear");
  std::vector<double> kept(columns);
  for (int64_t row = 0; row < rows; ++row) {
    const Vector here(d.begin() + row * columns, d.begin() + (row + 1) * columns);
    const auto order = order_by_magnitude(here);
    for (size_t r = 0; r < order.size(); ++r) {
      const size_t i = static_cast<size_t>(row * columns) + order[r];
      kept[r] += merged[i] != t.base[i];
    }
  }
  for (size_t r = 0; r < kept.size(); ++r) {
    const double p = 0.9 - 0.2 * static_cast<double>(r);
    EXPECT_NEAR(kept[r] / rows, p, 4 * std::sqrt(p * (1 - p) / rows)) << r;
  }
  EXPECT_EQ(merged, t.merge("della_linear"));
}

TEST(Della, RescaleKeepsTheNormAndBadProbabilitiesAreRefused) {
  TestTensor t = tensor(20000, 1, Spread::kNormal);
  t.task.shape = {200, 100};
  std::fill(t.base.begin(), t.base.end(), 0.0f);
  t.task.models[0].set("density", 0.6);
  double before = 0, after = 0;
  const auto merged = t.merge("della_linear");
  for (size_t i = 0; i < merged.size(); ++i) {
    before += std::abs(t.models[0][i]);
    after += std::abs(merged[i]);
  }
  EXPECT_NEAR(after / before, 1, 1e-6);
  t.task.models[0].set("density", 0.1);  // epsilon 0.15
  EXPECT_THROW(t.merge("della"), Error);
  t.task.models[0].set("density", 0.9);
  EXPECT_THROW(t.merge("della"), Error);
}

// The kinds of entries that a row may consist of.
enum class RowKind {
  kNormal,
  kFewValues,
  kZeros,
  kOneValue,
  kMostlyZero,
  kWide,
  kDwarfed,
  kRising
};

std::vector<uint32_t> make_row(size_t n, RowKind kind, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<uint32_t> row(n);
  for (size_t i = 0; i < n; ++i) {
    const float g = normal(random);
    float x = g;
    if (kind == RowKind::kFewValues) x = std::round(g * 2) / 8;
    if (kind == RowKind::kZeros) x = 0;
    if (kind == RowKind::kOneValue) x = -0.125f;
    if (kind == RowKind::kMostlyZero) x = i % 3 == 0 ? g : 0.0f;
    if (kind == RowKind::kWide) x = std::ldexp(g, static_cast<int>(random() % 200) - 150);
    if (kind == RowKind::kDwarfed) x = i == n / 2 ? 1e20f : g;
    if (kind == RowKind::kRising) x = 1 + static_cast<float>(i) * 0x1p-23f;
    row[i] = magnitude_bits(x);
  }
  return row;
}

// Against sorting, whatever the row is made of: around the lengths of registers, of blocks, and of
// rows that are sorted.
TEST(RowDecider, DecidesAsSortingDoes) {
  std::mt19937 random(1);
  RowDecider decider;  // used again: nothing of a row may be left for the next
  for (const size_t n :
       {1, 2, 3, 15, 16, 17, 18, 31, 33, 63, 64, 65, 255, 256, 257, 1000, 4096, 5003, 40000}) {
    for (int kind = 0; kind <= static_cast<int>(RowKind::kRising); ++kind) {
      for (const auto& [density, epsilon] : {std::pair{0.5, 0.15}, {0.5, 0.4999999}, {0.9, 0.01}}) {
        const auto row = make_row(n, static_cast<RowKind>(kind), random);
        const auto last = last_kept_by_rank(static_cast<int64_t>(n), density, epsilon);
        std::vector<uint32_t> numbers(n);
        for (uint32_t& r : numbers) r = static_cast<uint32_t>(random());
        std::vector<size_t> order(n);
        std::iota(order.begin(), order.end(), size_t{0});
        std::stable_sort(order.begin(), order.end(),
                         [&](size_t a, size_t b) { return row[a] < row[b]; });
        std::vector<uint8_t> expected(n), keep(n, 7);
        for (size_t rank = 0; rank < n; ++rank)
          expected[order[rank]] = static_cast<uint8_t>(numbers[order[rank]] <= last[rank]);
        decider.decide({row, numbers, last, keep});
        ASSERT_EQ(keep, expected) << n << " entries of kind " << kind << " epsilon " << epsilon;
      }
    }
  }
}

TEST(RowDecider, TheLastNumberThatIsKept) {
  for (const auto& [density, epsilon] : {std::pair{0.5, 0.15}, {0.5, 0.4999999}, {0.999, 0.0009}}) {
    const auto last = last_kept_by_rank(1000, density, epsilon);
    for (size_t rank = 0; rank < 1000; ++rank) {
      const double bound =
          0x1p32 * (density - epsilon + 2 * epsilon * (static_cast<double>(rank) / 999));
      EXPECT_LT(last[rank], bound);
      EXPECT_GE(last[rank] + 1.0, bound);
    }
  }
  EXPECT_EQ(last_kept_by_rank(1, 0.25, 0.1)[0], 0x3fffffffu);
}

TEST(BitMask, KeepsWhatItWasToldFromAnyPlaceOn) {
  std::mt19937 random(2);
  for (const size_t n : {1, 7, 8, 9, 31, 32, 33, 500, 1025, 5000}) {
    std::vector<float> model(n), base(n, 1.0f);
    for (float& x : model) x = 2 + static_cast<float>(random() % 100);
    std::vector<uint8_t> flags(n);
    for (uint8_t& f : flags) f = random() % 2;
    BitMask mask(static_cast<int64_t>(n));
    for (size_t at = 0; at < n;) {  // in pieces of odd lengths
      const size_t size = std::min<size_t>(n - at, 1 + random() % 50);
      mask.keep(static_cast<int64_t>(at), std::span(flags).subspan(at, size));
      at += size;
    }
    for (size_t at = 0; at < n;) {
      const size_t size = std::min<size_t>(n - at, 1 + random() % kChunkElements);
      std::vector<float> out(size);
      mask.weigh(static_cast<int64_t>(at), &model[at], &base[at], 0.5f, out);
      for (size_t i = 0; i < size; ++i)
        ASSERT_EQ(out[i], flags[at + i] ? 0.5f * (model[at + i] - 1) : 0.0f) << n << ' ' << at + i;
      at += size;
    }
  }
}

TEST(Flags, AreFoundInOrder) {
  std::vector<uint8_t> flags(100 + 7, 1);  // those behind the end are not looked at
  std::vector<size_t> expected, found;
  for (size_t i = 0; i < 100; ++i) {
    flags[i] = i % 7 == 3 || i > 90;
    if (flags[i]) expected.push_back(i);
  }
  for_set_flags(flags.data(), 100, [&](size_t i) { found.push_back(i); });
  EXPECT_EQ(found, expected);
  for (int bits = 0; bits < 256; ++bits) {
    uint8_t eight[8];
    for (int i = 0; i < 8; ++i) eight[i] = bits >> i & 1;
    EXPECT_EQ(pack_flags(eight), bits);
  }
}

}  // namespace
}  // namespace lewis
