// Timing and tables for the benchmarks.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <vector>

namespace lewis {

// BENCH_SMALL=1: smaller inputs, for a quick look.
inline bool bench_small() { return std::getenv("BENCH_SMALL") != nullptr; }

// Median seconds of a few runs, after one that does not count.
inline double median_seconds(const std::function<void()>& work, int runs = 5) {
  std::vector<double> seconds;
  for (int i = 0; i <= runs; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    if (i > 0) seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

}  // namespace lewis
