// Timing and tables for the benchmarks.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <string_view>
#include <vector>

namespace lewis {

// Chooses a size by the environment: BENCH_SIZE=small is for a quick look; BENCH_SIZE=tiny only
// shows that a benchmark still runs, and its numbers mean nothing.
template <typename T>
T bench_size(T full, T small, T tiny) {
  const char* wanted = std::getenv("BENCH_SIZE");
  const std::string_view size = wanted ? wanted : "";
  return size == "tiny" ? tiny : size == "small" ? small : full;
}

inline double seconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The least of a few runs: what the machine can do when nobody disturbs it.
inline double least_seconds(const std::function<void()>& work, int runs = 5) {
  runs = bench_size(runs, runs, 1);
  double least = seconds_of(work);
  for (int i = 1; i < runs; ++i) least = std::min(least, seconds_of(work));
  return least;
}

// Median seconds of a few runs, after one that does not count.
inline double median_seconds(const std::function<void()>& work, int runs = 5) {
  runs = bench_size(runs, runs, 1);
  std::vector<double> seconds;
  for (int i = 0; i <= runs; ++i) {
    const double one = seconds_of(work);
    if (i > 0) seconds.push_back(one);
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

}  // namespace lewis
