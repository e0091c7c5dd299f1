#include "base/random.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace lewis {
namespace {

// Known answers of Random123's kat_vectors for philox4x32-10.
TEST(Philox, KnownAnswers) {
  using C = std::array<uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (C{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t f = 0xffffffff;
  EXPECT_EQ(philox4x32({f, f, f, f}, {f, f}), (C{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (C{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(TensorRandom, FillIsElementByElement) {
  const TensorRandom random(7, 1, "model.norm.weight");
  for (const uint64_t first :
       {uint64_t{0}, uint64_t{1}, uint64_t{3}, uint64_t{64}, (uint64_t{1} << 34) - 40}) {
    for (const size_t n : {0, 1, 5, 63, 64, 65, 200}) {
      std::vector<uint32_t> filled(n);
      random.fill(first, filled);
      for (size_t i = 0; i < n; ++i)
        ASSERT_EQ(filled[i], random.element(first + i)) << first << " " << i;
    }
  }
}

TEST(TensorRandom, SeedModelAndNameMakeDifferentStreams) {
  std::set<uint32_t> seen;
  for (const uint64_t seed : {0, 1}) {
    for (const uint64_t model : {0, 1, 2}) {
      for (const char* name : {"a", "b"}) seen.insert(TensorRandom(seed, model, name).element(0));
    }
  }
  EXPECT_EQ(seen.size(), 12u);
}

}  // namespace
}  // namespace lewis
