// Recurrences in chunks against a version in double, beside the recurrence row by row: the chunks'
// differences from double must be those of float32 and no larger than the plain recurrence's kind.
#include "compute/recurrence.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "base/threads.h"
#include "compute/backend.h"
#include "compute/cpu/delta_rule.h"
#include "compute/cpu/state_space.h"
#include "plain_math.h"

namespace lewis {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The largest difference, as a share of the largest value.
double difference(const std::vector<float>& x, const std::vector<double>& expected) {
  double most = 0, largest = 1e-30;
  for (size_t i = 0; i < x.size(); ++i) {
    const double d = std::abs(static_cast<double>(x[i]) - expected[i]);
    most = std::max(most, std::isfinite(d) ? d : 1e30);
    largest = std::max(largest, std::abs(expected[i]));
  }
  return most / largest;
}

bool finite(const std::vector<float>& x) {
  return std::ranges::all_of(x, [](float v) { return std::isfinite(v); });
}

struct Sizes {
  int64_t rows, in, out;  // the state is [in, out]
};
// One row, fewer than a chunk, whole chunks, and rests of a few rows and of many.
const Sizes kSizes[] = {{1, 4, 3},    {7, 16, 24},     {8, 5, 3},     {63, 16, 16},
                        {64, 32, 32}, {65, 128, 128},  {127, 24, 40}, {200, 128, 64},
                        {512, 64, 1}, {333, 128, 128}, {136, 1, 16}};

// One head and what it needs; rows are padded, as those of a matrix with several heads.
struct DeltaCase {
  DeltaCase(const Sizes& sizes, uint32_t seed) : s(sizes) {
    q = lewis::random_floats(s.rows * stride(), seed);
    k = lewis::random_floats(s.rows * stride(), seed + 1);
    v = lewis::random_floats(s.rows * s.out, seed + 2);
    state = lewis::random_floats(s.in * s.out, seed + 3, 0.5f);
    decay = lewis::random_floats(s.rows, seed + 4);
    beta = lewis::random_floats(s.rows, seed + 5);
    for (float& g : decay) g = -std::exp(2 * g - 2);
    for (float& b : beta) b = 1 / (1 + std::exp(-b));
    norm(q, 1 / std::sqrt(static_cast<float>(s.in)));
    norm(k, 1);
  }
  int64_t stride() const { return s.in + 3; }
  void norm(std::vector<float>& x, float length) const {
    for (int64_t t = 0; t < s.rows; ++t) {
      float squares = 0;
      for (int64_t i = 0; i < s.in; ++i) squares += x[t * stride() + i] * x[t * stride() + i];
      for (int64_t i = 0; i < s.in; ++i) x[t * stride() + i] *= length / std::sqrt(squares);
    }
  }
  // Rows [first, first + rows), from and into the state `to`.
  DeltaHead head(int64_t first, int64_t rows, std::vector<float>& to, std::vector<float>& out) {
    return {.rows = rows,
            .key_dim = s.in,
            .value_dim = s.out,
            .q = q.data() + first * stride(),
            .k = k.data() + first * stride(),
            .v = v.data() + first * s.out,
            .key_stride = stride(),
            .value_stride = s.out,
            .decay = decay.data() + first,
            .beta = beta.data() + first,
            .gate_stride = 1,
            .state = to.data(),
            .out = out.data() + first * (s.out + 2),
            .out_stride = s.out + 2};
  }
  // The state after the rows, followed by their outputs.
  std::vector<float> run(const std::function<void(const DeltaHead&)>& rule, int64_t cut = 0) {
    std::vector<float> to = state, out(static_cast<size_t>(s.rows * (s.out + 2)), 7);
    if (cut > 0) rule(head(0, cut, to, out));
    rule(head(cut, s.rows - cut, to, out));
    for (int64_t t = 0; t < s.rows; ++t) {
      const float* row = out.data() + t * (s.out + 2);
      EXPECT_EQ(row[s.out], 7) << "wrote beside its output";
      to.insert(to.end(), row, row + s.out);
    }
    return to;
  }
  std::vector<double> in_double() const {
    std::vector<double> to(state.begin(), state.end()), out;
    std::vector<double> held(static_cast<size_t>(s.out));
    for (int64_t t = 0; t < s.rows; ++t) {
      const float *key = k.data() + t * stride(), *query = q.data() + t * stride();
      for (double& x : to) x *= std::exp(static_cast<double>(decay[t]));
      std::ranges::fill(held, 0);
      for (int64_t i = 0; i < s.in; ++i) {
        for (int64_t j = 0; j < s.out; ++j) held[j] += to[i * s.out + j] * key[i];
      }
      for (int64_t j = 0; j < s.out; ++j) held[j] = (v[t * s.out + j] - held[j]) * beta[t];
      for (int64_t i = 0; i < s.in; ++i) {
        for (int64_t j = 0; j < s.out; ++j) to[i * s.out + j] += key[i] * held[j];
      }
      for (int64_t j = 0; j < s.out; ++j) {
        double sum = 0;
        for (int64_t i = 0; i < s.in; ++i) sum += to[i * s.out + j] * query[i];
        out.push_back(sum);
      }
    }
    to.insert(to.end(), out.begin(), out.end());
    return to;
  }

  Sizes s;
  std::vector<float> q, k, v, state, decay, beta;
};

// As near to double as the recurrence row by row, but for sums in another order.
template <typename Case, typename Rule>
void expect_as_near(Case& c, const Rule& chunks, const Rule& by_rows, const char* what) {
  const std::vector<double> expected = c.in_double();
  const double rows = difference(c.run(by_rows), expected);
  const double limit = std::max(3 * rows, 2e-6);
  const std::string where =
      fmt::format("{}: {} rows, {} x {}; row by row {:.1e}", what, c.s.rows, c.s.in, c.s.out, rows);
  EXPECT_LT(rows, 2e-5) << where;
  EXPECT_LT(difference(c.run(chunks), expected), limit) << where;
  for (const int64_t cut : {c.s.rows / 3, c.s.rows - 1})
    EXPECT_LT(difference(c.run(chunks, cut), expected), limit) << where << ", cut after " << cut;
}

void expect_delta(DeltaCase& c, const char* what) {
  expect_as_near(c, delta_rule, delta_rule_by_rows, what);
}

TEST(DeltaRule, ChunksAreAsNearToDoubleAsRows) {
  for (const Sizes& sizes : kSizes) {
    DeltaCase c(sizes, 1);
    expect_delta(c, "usual");
    std::ranges::fill(c.decay, -1e-7f);
    expect_delta(c, "nothing fades");
    std::ranges::fill(c.decay, -30.0f);
    expect_delta(c, "a row is gone after three");
    for (size_t t = 0; t < c.decay.size(); ++t) c.decay[t] = t % 9 == 4 ? -1e4f : -1e-3f;
    expect_delta(c, "all is gone now and then");
    for (size_t t = 0; t < c.decay.size(); ++t) c.decay[t] = t % 70 == 30 ? -kInfinity : -0.01f;
    expect_delta(c, "infinite rate");
    for (size_t t = 0; t < c.decay.size(); ++t) c.decay[t] = t % 2 ? -86.9f : 0.0f;
    expect_delta(c, "at the end of float's range");
  }
}

// The substitution is longest where all keys are the same and nothing is left of what was held.
TEST(DeltaRule, KeysThatRepeat) {
  for (const Sizes& sizes : kSizes) {
    DeltaCase c(sizes, 2);
    for (int64_t t = 1; t < sizes.rows; ++t)
      std::copy_n(c.k.begin(), sizes.in, c.k.begin() + t * c.stride());
    std::ranges::fill(c.decay, -1e-4f);
    std::ranges::fill(c.beta, 1.0f);
    expect_delta(c, "one key");
    for (int64_t t = 1; t < sizes.rows; t += 2) {
      for (int64_t i = 0; i < sizes.in; ++i) c.k[t * c.stride() + i] *= -1;
    }
    expect_delta(c, "one key and its opposite");
  }
}

TEST(DeltaRule, WhatIsNotFiniteIsInTheState) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    for (const int64_t row : {0, 9, 70, 131}) {
      for (int which = 0; which < 3; ++which) {
        DeltaCase c({132, 16, 8}, 3);
        if (which == 0) c.v[row * 8 + 3] = bad;
        if (which == 1) c.k[row * c.stride() + 2] = bad;
        if (which == 2) c.state[5] = bad;
        std::vector<float> chunks = c.run(delta_rule), rows = c.run(delta_rule_by_rows);
        chunks.resize(c.state.size());
        rows.resize(c.state.size());
        EXPECT_FALSE(finite(rows));
        EXPECT_FALSE(finite(chunks)) << "row " << row << ", " << which;
      }
    }
  }
  DeltaCase c({132, 16, 8}, 3);
  c.decay[20] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(finite(c.run(delta_rule)));
}

struct StateCase {
  static constexpr int64_t kHeads = 3;

  StateCase(const Sizes& sizes, uint32_t seed) : s(sizes) {
    rows = lewis::random_floats(s.rows * stride(), seed);
    step = lewis::random_floats(s.rows * kHeads, seed + 1);
    for (float& x : step) x = std::exp(x - 2);
    state = lewis::random_floats(kHeads * s.in * s.out, seed + 2, 0.5f);
  }
  int64_t stride() const { return kHeads * s.out + 2 * s.in + 1; }
  StateHeads heads(int64_t first, int64_t count, std::vector<float>& to, std::vector<float>& out) {
    const float* row = rows.data() + first * stride();
    return {.rows = count,
            .heads = kHeads,
            .head_dim = s.out,
            .state_dim = s.in,
            .x = row,
            .b = row + kHeads * s.out,
            .c = row + kHeads * s.out + s.in,
            .stride = stride(),
            .step = step.data() + first * kHeads,
            .step_stride = kHeads,
            .a = a.data(),
            .d = d.data(),
            .state = to.data(),
            .out = out.data() + first * (kHeads * s.out + 2),
            .out_stride = kHeads * s.out + 2};
  }
  std::vector<float> run(const std::function<void(const StateHeads&)>& rule, int64_t cut = 0) {
    const int64_t width = kHeads * s.out + 2;
    std::vector<float> to = state, out(static_cast<size_t>(s.rows * width), 7);
    if (cut > 0) rule(heads(0, cut, to, out));
    rule(heads(cut, s.rows - cut, to, out));
    for (int64_t t = 0; t < s.rows; ++t) {
      const float* row = out.data() + t * width;
      EXPECT_EQ(row[width - 1], 7) << "wrote beside its output";
      to.insert(to.end(), row, row + kHeads * s.out);
    }
    return to;
  }
  std::vector<double> in_double() const {
    std::vector<double> to(state.begin(), state.end()), out;
    for (int64_t t = 0; t < s.rows; ++t) {
      const float* row = rows.data() + t * stride();
      const float *b = row + kHeads * s.out, *c = b + s.in;
      for (int64_t h = 0; h < kHeads; ++h) {
        const double dt = step[t * kHeads + h], fade = std::exp(dt * a[h]);
        double* of_head = to.data() + h * s.in * s.out;
        for (int64_t j = 0; j < s.out; ++j) {
          const double x = row[h * s.out + j];
          double sum = d[h] * x;
          for (int64_t i = 0; i < s.in; ++i) {
            double& value = of_head[i * s.out + j];
            value = value * fade + dt * b[i] * x;
            sum += value * c[i];
          }
          out.push_back(sum);
        }
      }
    }
    to.insert(to.end(), out.begin(), out.end());
    return to;
  }

  Sizes s;
  std::vector<float> rows, step, state;
  std::vector<float> a = {-0.5f, -4, -16}, d = {1, 0.3f, -2};
};

void expect_states(StateCase& c, const char* what) {
  expect_as_near(c, scan_states, scan_states_by_rows, what);
}

TEST(StateSpace, ChunksAreAsNearToDoubleAsRows) {
  for (const Sizes& sizes : kSizes) {
    StateCase c(sizes, 4);
    expect_states(c, "usual");
    c.a = {-1e-8f, -1e5f, -kInfinity};
    expect_states(c, "nothing and everything fades");
    c.a = {-1, -1e-3f, -8};
    for (size_t i = 0; i < c.step.size(); ++i) c.step[i] = i % 7 == 2 ? 1e4f : 1e-3f;
    expect_states(c, "a large step now and then");
    std::ranges::fill(c.step, 1e-8f);
    expect_states(c, "small steps");
    std::ranges::fill(c.step, 1e4f);
    expect_states(c, "large steps");
    for (size_t i = 0; i < c.step.size(); ++i) c.step[i] = i % 2 ? 0.0f : 1.0f;
    expect_states(c, "steps of nothing");
  }
}

TEST(StateSpace, WhatIsNotFiniteIsInTheState) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity}) {
    for (const int64_t row : {0, 9, 70, 131}) {
      for (int which = 0; which < 4; ++which) {
        StateCase c({132, 16, 8}, 5);
        if (which == 0) c.rows[row * c.stride() + 3] = bad;
        if (which == 1) c.rows[row * c.stride() + StateCase::kHeads * 8 + 2] = bad;
        if (which == 2) c.step[row * StateCase::kHeads] = bad;
        if (which == 3) c.state[5] = bad;
        std::vector<float> chunks = c.run(scan_states), rows = c.run(scan_states_by_rows);
        chunks.resize(c.state.size());
        rows.resize(c.state.size());
        EXPECT_EQ(finite(chunks), finite(rows)) << "row " << row << ", " << which;
      }
    }
  }
}

TEST(Recurrences, SameBitsForAnyNumberOfThreads) {
  std::vector<std::vector<float>> first;
  for (const size_t count : {1, 2, 7}) {
    Threads threads(count);
    const auto backend = make_cpu_backend(threads);
    std::vector<DeltaCase> deltas;
    std::vector<StateCase> spaces;
    for (const Sizes& sizes : kSizes) {
      deltas.emplace_back(sizes, 6);
      spaces.emplace_back(sizes, 7);
    }
    std::vector<std::vector<float>> results(4 * deltas.size());
    std::vector<DeltaHead> heads;
    std::vector<StateHeads> groups;
    for (size_t i = 0; i < deltas.size(); ++i) {
      const int64_t rows = deltas[i].s.rows, width = deltas[i].s.out;
      results[4 * i] = deltas[i].state;
      results[4 * i + 1].resize(static_cast<size_t>(rows * (width + 2)));
      results[4 * i + 2] = spaces[i].state;
      results[4 * i + 3].resize(static_cast<size_t>(rows * (StateCase::kHeads * width + 2)));
      heads.push_back(deltas[i].head(0, rows, results[4 * i], results[4 * i + 1]));
      groups.push_back(spaces[i].heads(0, rows, results[4 * i + 2], results[4 * i + 3]));
    }
    backend->delta_rule(heads);
    backend->scan_states(groups);
    if (first.empty()) first = results;
    EXPECT_EQ(results, first) << count << " threads";
    for (size_t i = 0; i < deltas.size(); ++i) {
      const std::vector<float> alone = deltas[i].run(delta_rule);
      EXPECT_TRUE(std::equal(results[4 * i].begin(), results[4 * i].end(), alone.begin()));
    }
  }
}

}  // namespace
}  // namespace lewis
