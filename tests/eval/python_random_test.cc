#include "eval/tasks/python_random.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace lewis {
namespace {

using Numbers = std::vector<uint32_t>;

// All expected values: CPython 3.11, random.Random(seed).
TEST(PythonRandom, GeneratesCPythonsNumbers) {
  PythonRandom a(1234), b(0), c(4294967295);
  EXPECT_EQ((Numbers{a.next(), a.next(), a.next(), a.next()}),
            (Numbers{4150886329, 3342196574, 1892932127, 501869158}));
  EXPECT_EQ((Numbers{b.next(), b.next(), b.next(), b.next()}),
            (Numbers{3626764237, 1654615998, 3255389356, 3823568514}));
  EXPECT_EQ((Numbers{c.next(), c.next(), c.next(), c.next()}),
            (Numbers{2728839433, 2661025012, 872737089, 924893097}));
  PythonRandom far(1234);
  for (int i = 0; i < 2000; ++i) far.next();
  EXPECT_EQ(far.next(), 558462902u);
}

// lm-evaluation-harness's choice of shots: sample(train, 5) anew for each document.
TEST(PythonRandom, SamplesGsm8kShots) {
  PythonRandom random(1234);
  EXPECT_EQ(random.sample(7473, 5), (Numbers{6374, 3610, 957, 61, 742}));
  EXPECT_EQ(random.sample(7473, 5), (Numbers{7462, 6610, 4769, 286, 5501}));
  EXPECT_EQ(random.sample(7473, 5), (Numbers{5677, 687, 806, 6279, 2905}));
  EXPECT_EQ(random.sample(7473, 5), (Numbers{1939, 142, 252, 6461, 129}));
}

// On both sides of the sizes at which CPython changes from a pool to a set.
TEST(PythonRandom, SamplesFromPoolsAndSets) {
  PythonRandom random(1234);
  EXPECT_EQ(random.sample(20, 8), (Numbers{14, 3, 0, 2, 1, 10, 11, 15}));
  EXPECT_EQ(random.sample(20, 8), (Numbers{3, 11, 7, 0, 16, 12, 15, 5}));
  EXPECT_EQ(random.sample(21, 5), (Numbers{20, 19, 15, 14, 4}));
  EXPECT_EQ(random.sample(22, 5), (Numbers{2, 5, 3, 0, 16}));
  EXPECT_EQ(random.sample(85, 6), (Numbers{62, 31, 8, 69, 59, 82}));
  EXPECT_EQ(random.sample(86, 6), (Numbers{76, 11, 65, 74, 5, 34}));
  EXPECT_EQ(random.sample(64, 3), (Numbers{8, 38, 61}));
  EXPECT_EQ(random.sample(3, 3), (Numbers{1, 2, 0}));
  EXPECT_EQ(random.sample(5, 0), Numbers{});
  PythonRandom large(1234);
  EXPECT_EQ(large.sample(1000, 20), (Numbers{989, 796, 451, 119, 7,  92,  932, 965, 961, 826,
                                             596, 35,  687, 709, 85, 100, 784, 363, 242, 17}));
  EXPECT_THROW(random.sample(3, 4), Error);
}

}  // namespace
}  // namespace lewis
