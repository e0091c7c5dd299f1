// In which pieces the bytes of a pass come: each once, in the order of the file where a hash is
// to be computed.
#include "hub/read_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <vector>

namespace lewis {
namespace {

constexpr uint64_t kMiB = 1 << 20;

class NoFile final : public RangeSource {
 public:
  explicit NoFile(uint64_t size) : size_(size) {}
  uint64_t size() const override { return size_; }
  void read_at(uint64_t, std::span<std::byte>) const override {}
  std::string identity() const override { return ""; }
  ReadAhead& read_ahead() const override { std::abort(); }

 private:
  uint64_t size_;
};

PlannedFile whole(const NoFile& file, uint64_t known = 0) { return {&file, file.size(), known}; }

// How often each piece of 1 KiB of a file comes.
std::map<uint64_t, int> times(const ReadPlan& plan, size_t file) {
  std::map<uint64_t, int> times;
  for (const PlannedPiece& p : plan.pieces) {
    for (uint64_t at = p.begin; p.file == file && at < p.begin + p.size; at += 1024) ++times[at];
  }
  return times;
}

// Pieces come by step, and those of a file whose hash is computed without a gap.
void expect_order(const ReadPlan& plan) {
  size_t step = 0;
  std::map<size_t, uint64_t> at;
  for (const PlannedPiece& p : plan.pieces) {
    EXPECT_GE(p.step, step);
    step = p.step;
    const PlannedFile& file = plan.files[p.file];
    if (!file.is_hashed) continue;
    const auto [end, is_new] = at.try_emplace(p.file, file.known);
    EXPECT_LE(p.begin, end->second);
    end->second = std::max(end->second, p.begin + p.size);
  }
  for (size_t f = 0; f < plan.files.size(); ++f) {
    if (!plan.files[f].is_hashed) continue;
    EXPECT_EQ(at[f], plan.files[f].size);
  }
}

// Every byte of every step is in a piece that counts the step as a reader.
void expect_covered(const ReadPlan& plan, const std::vector<ReadAhead::Step>& steps) {
  for (size_t s = 0; s < steps.size(); ++s) {
    for (const FilePlace& place : steps[s].places) {
      for (uint64_t at = place.offset; at < place.offset + place.size; at += 1024) {
        bool found = false;
        for (const PlannedPiece& p : plan.pieces) {
          const PlannedFile& file = plan.files[p.file];
          found = found || at < file.known ||
                  (file.file == place.file && p.begin <= at && at < p.begin + p.size &&
                   std::ranges::find(p.steps, s) != p.steps.end() && p.step <= s);
        }
        ASSERT_TRUE(found) << "step " << s << " byte " << at;
      }
    }
  }
}

TEST(ReadPlan, NeighboursAreJoinedAndLongPlacesCut) {
  const NoFile file(10 * kMiB);
  const std::vector<ReadAhead::Step> steps = {
      {{{&file, 1024, 1024}}}, {{{&file, 2048, 1024}}}, {{{&file, 3072, 10 * kMiB - 3072}}}};
  const ReadPlan plan = plan_reads(steps, {whole(file, 1024)}, 4 * kMiB);
  ASSERT_EQ(plan.pieces.size(), 3u);
  EXPECT_EQ(plan.pieces[0].begin, 1024u);
  EXPECT_EQ(plan.pieces[0].size, 4 * kMiB);
  EXPECT_EQ(plan.pieces[0].steps, (std::vector<size_t>{0, 1, 2}));
  EXPECT_EQ(plan.pieces[2].begin + plan.pieces[2].size, 10 * kMiB);
  expect_order(plan);
  expect_covered(plan, steps);
}

TEST(ReadPlan, SmallTensorsAtTheFrontComeEarlyAndStay) {
  const NoFile file(9 * kMiB);
  // Norms of another type lie at the front, and are merged between the others.
  const uint64_t front = 512 << 10;
  const std::vector<ReadAhead::Step> steps = {{{{&file, front, 4 * kMiB}}},
                                              {{{&file, 0, front / 2}}},
                                              {{{&file, front + 4 * kMiB, 5 * kMiB - front}}},
                                              {{{&file, front / 2, front / 2}}}};
  const ReadPlan plan = plan_reads(steps, {whole(file)}, 16 * kMiB);
  EXPECT_TRUE(plan.files[0].is_hashed);
  expect_order(plan);
  expect_covered(plan, steps);
  for (const auto& [at, count] : times(plan, 0)) EXPECT_EQ(count, 1) << at;
}

TEST(ReadPlan, AnotherOrderHasNoHashAndStillComesOnce) {
  const NoFile file(40 * kMiB);
  const std::vector<ReadAhead::Step> steps = {{{{&file, 20 * kMiB, 20 * kMiB}}},
                                              {{{&file, 0, 20 * kMiB}}}};
  const ReadPlan plan = plan_reads(steps, {whole(file)}, 16 * kMiB);
  EXPECT_FALSE(plan.files[0].is_hashed);
  expect_order(plan);
  expect_covered(plan, steps);
  for (const auto& [at, count] : times(plan, 0)) EXPECT_EQ(count, 1) << at;
}

TEST(ReadPlan, WhatIsReadTwiceStaysWhenItIsSmall) {
  const NoFile file(8 * kMiB);
  const uint64_t small = 512 << 10, rest = 8 * kMiB - small;
  std::vector<ReadAhead::Step> steps = {{{{&file, 0, small}}}, {{{&file, small, rest}}}};
  for (int i = 0; i < 10; ++i) steps.push_back({});
  steps.insert(steps.end(), {steps[0], steps[1]});
  const ReadPlan plan = plan_reads(steps, {whole(file)}, 2 * kMiB);
  expect_order(plan);
  expect_covered(plan, steps);
  const auto counts = times(plan, 0);
  EXPECT_EQ(counts.at(0), 1);
  EXPECT_EQ(counts.at(4 * kMiB), 2);
}

// gate and up of one expert, stored as columns of one matrix: the ranges that they span overlap.
TEST(ReadPlan, RangesThatOverlapComeOnceForStepsThatAreNear) {
  const NoFile file(64 * kMiB);
  std::vector<ReadAhead::Step> steps;
  for (uint64_t expert = 0; expert < 4; ++expert) {
    const uint64_t begin = expert * 16 * kMiB, size = 16 * kMiB - 4096;
    steps.push_back({{{&file, begin, size}}});
    steps.push_back({{{&file, begin + 4096, size}}});
  }
  const ReadPlan plan = plan_reads(steps, {whole(file)}, 16 * kMiB);
  EXPECT_TRUE(plan.files[0].is_hashed);
  expect_order(plan);
  expect_covered(plan, steps);
  for (const auto& [at, count] : times(plan, 0)) EXPECT_EQ(count, 1) << at;
}

TEST(ReadPlan, FilesOfAStepInPartsComeSideBySide) {
  const NoFile a(32 * kMiB), b(32 * kMiB);
  const std::vector<ReadAhead::Step> steps = {{{{&a, 0, 32 * kMiB}, {&b, 0, 32 * kMiB}}, true}};
  const ReadPlan plan = plan_reads(steps, {whole(a), whole(b)}, 8 * kMiB);
  ASSERT_EQ(plan.pieces.size(), 8u);
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(plan.pieces[i].file, i % 2);
  expect_order(plan);
  expect_covered(plan, steps);
}

// Many layouts: nothing is missing, whatever the order.
TEST(ReadPlan, RandomOrders) {
  uint64_t state = 7;
  const auto random = [&state](uint64_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % below;
  };
  for (int run = 0; run < 200; ++run) {
    std::vector<FilePlace> places;
    uint64_t at = 0;
    const NoFile file(200 * 1024);
    while (at < file.size()) {
      const uint64_t size = std::min(1024 * (1 + random(20)), file.size() - at);
      places.push_back({&file, at, size});
      at += size;
    }
    std::vector<ReadAhead::Step> steps;
    for (size_t i = 0; i < places.size() + random(5); ++i) {
      ReadAhead::Step step;
      step.in_parts = random(5) == 0;
      for (size_t n = 0; n <= random(2); ++n) {
        FilePlace place = places[random(places.size())];
        if (random(3) == 0)  // it overlaps with the next ones
          place.size = std::min(place.size + 1024 * random(30), file.size() - place.offset);
        step.places.push_back(place);
      }
      steps.push_back(step);
    }
    const ReadPlan plan = plan_reads(steps, {whole(file, 1024 * random(3))}, 16 * 1024);
    expect_order(plan);
    expect_covered(plan, steps);
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace lewis
