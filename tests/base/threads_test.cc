#include "base/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

namespace lewis {
namespace {

TEST(Threads, EachPieceOnce) {
  for (const size_t count : {1, 2, 7}) {
    Threads threads(count);
    EXPECT_EQ(threads.count(), count);
    for (const size_t n : {0, 1, 2, 1000}) {
      std::vector<std::atomic<int>> calls(n);
      threads.run(n, [&](size_t i) { ++calls[i]; });
      for (const auto& c : calls) EXPECT_EQ(c, 1);
    }
  }
}

TEST(Threads, ErrorsComeBackAndThePoolGoesOn) {
  Threads threads(4);
  for (int round = 0; round < 50; ++round) {
    EXPECT_THROW(threads.run(100,
                             [](size_t i) {
                               if (i == 37) throw std::runtime_error("37");
                             }),
                 std::runtime_error);
    std::atomic<size_t> sum = 0;
    threads.run(100, [&](size_t i) { sum += i; });
    EXPECT_EQ(sum, 4950u);
  }
}

// Workers wait awake at first, then asleep: runs come before, while and after they fall asleep.
TEST(Threads, EveryGapBetweenRuns) {
  Threads threads(2);
  for (int gap = 0; gap < 300; gap += 3) {
    std::atomic<size_t> sum = 0;
    threads.run(9, [&](size_t i) { sum += i; });
    EXPECT_EQ(sum, 36u);
    std::this_thread::sleep_for(std::chrono::microseconds(gap));
  }
}

}  // namespace
}  // namespace lewis
