// Tensors that go block by block against the same tensors in memory.
#include <gtest/gtest.h>

#include "base/error.h"
#include "merge/tensor/merge_tensor.h"
#include "merge/tensor/tensor_io.h"
#include "tensors.h"

namespace lewis {
namespace {

TEST(Blocks, RangesTile) {
  for (const int64_t count : {0, 1, 5, 100}) {
    for (const int64_t block : {0, 1, 3, 100, 1000}) {
      int64_t next = 0;
      for (const ElementRange& r : ranges_of(count, block)) {
        EXPECT_EQ(r.first, next);
        EXPECT_GT(r.count, 0);
        if (block > 0) {
          EXPECT_LE(r.count, block);
        }
        next += r.count;
      }
      EXPECT_EQ(next, count);
    }
  }
}

class BlocksOfEveryMethod : public testing::TestWithParam<std::string_view> {
 protected:
  // Rows of 300: slots and blocks end amid chunks and rows.
  static TestTensor tensor(size_t rows) {
    const size_t models = std::min<size_t>(2, find_merge_method(GetParam()).max_models);
    TestTensor t(rows * 300, models, 3);
    fill(t, Spread::kHeavyTies, 8);
    t.task.shape = {static_cast<int64_t>(rows), 300};
    t.task.set("t", 0.3);
    for (auto& m : t.task.models) m.set("density", 0.5);
    return t;
  }
};
INSTANTIATE_TEST_SUITE_P(Merge, BlocksOfEveryMethod, testing::ValuesIn(merge_method_names()),
                         [](const auto& test) { return std::string(test.param); });

TEST_P(BlocksOfEveryMethod, GiveTheSameBits) {
  TestTensor t = tensor(1500);
  for (const bool row_wise : {false, true}) {
    t.task.set("filter_wise", row_wise);
    t.task.set("nuslerp_flatten", !row_wise);
    const std::vector<float> expected = t.merge(GetParam());
    for (const int64_t block : {1, 40'000, 100'000, 10'000'000})
      EXPECT_EQ(t.merge_in_blocks(GetParam(), block), expected) << block;
  }
}

TEST_P(BlocksOfEveryMethod, NotFiniteIsRefusedByName) {
  TestTensor t = tensor(200);
  t.models.back()[45'678] = INFINITY;
  try {
    t.merge_in_blocks(GetParam(), 20'000);
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("not finite (NaN or infinity) at element 45678"),
              std::string::npos)
        << e.what();
  }
}

}  // namespace
}  // namespace lewis
