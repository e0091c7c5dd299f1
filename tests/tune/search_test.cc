#include "tune/search.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "temp_dir.h"
#include "tune/journal.h"

namespace lewis {
namespace {

using Point = std::span<const double>;

TEST(Search, FindsTheMinimumOfOneValley) {
  for (const double at : {0.31, 0.77, 1.0, 1.44}) {
    const Axis axis{0.3, 1.5, 0.9, false};
    const auto found = coordinate_search(
        std::span(&axis, 1), 24, [&](Point p) { return std::optional((p[0] - at) * (p[0] - at)); });
    EXPECT_NEAR(found.point[0], at, 0.01 * 1.2);
    EXPECT_LE(found.evaluations, 24u);
    EXPECT_DOUBLE_EQ(found.start_value, (0.9 - at) * (0.9 - at));
  }
}

TEST(Search, EqualRatiosOnALogScale) {
  const Axis axis{0.001, 10, 0.1, true};
  const auto found = coordinate_search(std::span(&axis, 1), 24, [](Point p) {
    const double x = std::log10(p[0] / 0.02);
    return std::optional(x * x);
  });
  EXPECT_NEAR(found.point[0] / 0.02, 1, 0.15);
}

TEST(Search, SeveralAxes) {
  const Axis axes[] = {{0, 1, 0.5, false}, {0, 2, 1, false}, {1, 3, 2, false}};
  const auto found = coordinate_search(axes, 90, [](Point p) {
    const double x = p[0] - 0.2, y = p[1] - 1.6, z = p[2] - 2.1;
    return std::optional(x * x + y * y + z * z + 0.3 * x * y);
  });
  EXPECT_NEAR(found.point[0], 0.2, 0.05);
  EXPECT_NEAR(found.point[1], 1.6, 0.08);
  EXPECT_NEAR(found.point[2], 2.1, 0.08);
}

// Options have no order: all are tried, once.
TEST(Search, WholeNumbersAreTriedOneByOne) {
  const Axis axes[] = {{0, 3, 1, false, true}, {0, 1, 0.5, false}};
  std::set<double> seen;
  const double values[] = {3, 2, 5, 1};
  const auto found = coordinate_search(axes, 40, [&](Point p) {
    seen.insert(p[0]);
    return std::optional(values[static_cast<size_t>(p[0])] + (p[1] - 0.3) * (p[1] - 0.3));
  });
  EXPECT_EQ(seen, (std::set<double>{0, 1, 2, 3}));
  EXPECT_EQ(found.point[0], 3);
  EXPECT_NEAR(found.point[1], 0.3, 0.02);
}

TEST(Search, EndsWhereARoundIsSaidToGainNothing) {
  const Axis axes[] = {{0, 1, 0.5, false}, {0, 1, 0.5, false}};
  const auto bowl = [](Point p) { return std::optional(p[0] * p[0] + p[1] * p[1]); };
  size_t rounds = 0;
  const auto ended = coordinate_search(axes, 90, bowl, [&](Point from, Point to) {
    EXPECT_GE(*bowl(from), *bowl(to));
    return ++rounds < 2;
  });
  EXPECT_EQ(rounds, 2u);
  EXPECT_LT(ended.evaluations, coordinate_search(axes, 90, bowl).evaluations);
}

// Never more evaluations than allowed, never a point twice, never outside; the best one seen wins.
TEST(Search, KeepsItsBudgetAndItsBounds) {
  for (const size_t most : {1u, 2u, 3u, 7u, 24u}) {
    const Axis axes[] = {{-1, 1, 0.25, false}, {2, 3, 3, false}};
    std::set<std::vector<double>> seen;
    double best = INFINITY;
    const auto found = coordinate_search(axes, most, [&](Point p) {
      EXPECT_TRUE(seen.insert({p.begin(), p.end()}).second);
      EXPECT_TRUE(p[0] >= -1 && p[0] <= 1 && p[1] >= 2 && p[1] <= 3);
      const double value = std::sin(40 * p[0]) + std::cos(70 * p[1]);
      best = std::min(best, value);
      return std::optional(value);
    });
    EXPECT_EQ(found.value, best);
    EXPECT_LE(found.evaluations, most);
    EXPECT_EQ(found.evaluations, seen.size());
  }
}

TEST(Search, GoesAroundWhatDoesNotFit) {
  const Axis axis{0, 1, 0.5, false};
  const auto found = coordinate_search(std::span(&axis, 1), 20, [](Point p) {
    return p[0] > 0.6 ? std::nullopt : std::optional(1 - p[0]);
  });
  EXPECT_GT(found.point[0], 0.55);
  EXPECT_LE(found.point[0], 0.6);
  EXPECT_THROW(coordinate_search(std::span(&axis, 1), 20, [](Point) { return std::nullopt; }),
               Error);
}

TEST(TuneJournal, GoesOnWhereItStopped) {
  const TempDir dir;
  const auto file = dir.path / "j.jsonl";
  {
    TuneJournal journal(file, "one");
    journal.add("a", {0.1, 1.0 / 3});
    journal.add("b", {2});
  }
  EXPECT_EQ(TuneJournal(file, "one").find("a"), (Json{0.1, 1.0 / 3}));  // to the bit
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 3);
  {
    TuneJournal cut(file, "one");
    EXPECT_TRUE(cut.find("a"));
    EXPECT_FALSE(cut.find("b"));
    cut.add("b", {3});
  }
  EXPECT_EQ(TuneJournal(file, "one").find("b"), (Json{3}));
  EXPECT_EQ(TuneJournal(file, "two").size(), 0u);
  EXPECT_EQ(TuneJournal(file, "one").size(), 0u);  // that of "two" was begun in its place
}

}  // namespace
}  // namespace lewis
