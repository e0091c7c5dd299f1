#include "merge/selection/top_k.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "merge/selection/bracket_count.h"

namespace lewis {
namespace {

constexpr uint32_t kLargest = Bracket().high;

// The magnitudes of one slot above, at and inside its bracket.
struct SlotCount {
  int64_t above = 0, at_high = 0, at_low = 0;
  std::vector<uint32_t> inside;  // low < m < high, in order

  int64_t equal_to(uint32_t m, const Bracket& b) const {
    if (m == b.high) return at_high;
    return m == b.low ? at_low : std::count(inside.begin(), inside.end(), m);
  }
};

void count_chunk(const Differences& values, size_t n, const Bracket& b, SlotCount& slot) {
  uint32_t between[kChunkElements];
  const BracketCount count = count_in_bracket(values, n, b, between);
  slot.above += count.above;
  slot.at_high += count.at_high;
  slot.at_low += count.at_low;
  slot.inside.insert(slot.inside.end(), between, between + count.inside);
}

// One query on its way: its sample, its bracket, what the last pass found.
struct Search {
  TopKQuery query;
  std::vector<std::vector<uint32_t>> sample;  // in parts
  Bracket bracket;
  double margin = 2.5;  // standard errors of the sample's quantile
  std::vector<SlotCount> slots;
  bool done = false;
  TopK result;
  size_t cut_slot = 0;   // where equal_before lies ...
  int64_t cut_rank = 0;  // ... behind so many equal elements of that slot
};

// Calls f(search, what it ranks) for each search.
template <typename F>
void for_values(std::span<const ValueFn> values, std::vector<Search>& searches, const Chunk& chunk,
                const F& f) {
  float room[kChunkElements];
  for (size_t v = 0; v < values.size(); ++v) {
    std::optional<Differences> ranked;
    for (Search& s : searches) {
      if (s.query.values != v || s.done) continue;
      if (!ranked) ranked = values[v](chunk, room);
      f(s, *ranked);
    }
  }
}

struct Nth {
  uint32_t value = 0;
  int64_t larger = 0;  // how many are
};

// The rank-th largest of all values of the parts; they lie in `range`. Counts them in up to 4096
// ranges of equal width, then those of the one that holds it, until that is a single value.
Nth nth_largest(std::span<const std::span<const uint32_t>> parts, Bracket range, int64_t rank) {
  std::vector<int64_t> counts;
  Nth found;
  while (range.low < range.high) {
    const uint32_t width = range.high - range.low;
    const int shift = std::max(0, static_cast<int>(std::bit_width(width)) - 12);
    counts.assign((width >> shift) + 1, 0);
    for (const auto part : parts) {
      for (const uint32_t m : part) {
        if (m - range.low <= width) ++counts[(m - range.low) >> shift];
      }
    }
    size_t at = counts.size() - 1;
    for (; rank - found.larger > counts[at]; --at) found.larger += counts[at];
    range.low += static_cast<uint32_t>(at) << shift;
    range.high = std::min(range.high, range.low + (1u << shift) - 1);
  }
  found.value = range.low;
  return found;
}

// The values at two places (from 0, ascending) of all values of the parts; a place beyond them has
// none. Exact, so that a value that many share is an end of the bracket and is counted, not
// collected.
std::array<std::optional<uint32_t>, 2> values_at(const std::vector<std::vector<uint32_t>>& parts,
                                                 std::array<double, 2> places) {
  constexpr int kShift = 16;
  std::vector<uint32_t> counts((kLargest >> kShift) + 1);
  for (const auto& part : parts) {
    for (const uint32_t m : part) ++counts[m >> kShift];
  }
  std::array<std::optional<uint32_t>, 2> values;
  for (size_t p = 0; p < places.size(); ++p) {
    if (places[p] < 0) continue;
    auto left = static_cast<uint64_t>(places[p]);
    uint32_t range = 0;
    while (range < counts.size() && left >= counts[range]) left -= counts[range++];
    if (range == counts.size()) continue;
    std::vector<uint32_t> there;
    for (const auto& part : parts) {
      for (const uint32_t m : part) {
        if (m >> kShift == range) there.push_back(m);
      }
    }
    const auto nth = there.begin() + static_cast<std::ptrdiff_t>(left);
    std::nth_element(there.begin(), nth, there.end());
    values[p] = *nth;
  }
  return values;
}

void bracket_from_sample(Search& s, int64_t count) {
  s.bracket = {};
  size_t size = 0;
  for (const auto& part : s.sample) size += part.size();
  if (size == 0) return;
  const auto n = static_cast<double>(size);
  const double share = static_cast<double>(s.query.k) / static_cast<double>(count);
  // Neighbours resemble each other: the sample is worth less than its size.
  const double slack = s.margin * 1.5 * std::sqrt(n * share * (1 - share)) + 2 * s.margin;
  const double place = n * (1 - share);
  const auto [low, high] = values_at(s.sample, {place - slack, place + slack});
  s.bracket = {low.value_or(0), high.value_or(kLargest)};
}

// Every eighth magnitude of some slots that are spread over the tensor.
void draw_samples(const ChunkPass& pass, std::span<const ValueFn> values,
                  std::vector<Search>& searches, int64_t count) {
  constexpr int64_t kSmall = 1 << 18;  // collected whole
  if (count <= kSmall) return;
  const size_t wanted = std::clamp<size_t>(pass.slots() / 16, 16, 64);
  std::vector<size_t> chosen;
  for (size_t i = 0; i < wanted; ++i) chosen.push_back(i * pass.slots() / wanted);
  chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
  for (Search& s : searches) s.sample.resize(chosen.size());
  pass.run(chosen, [&](size_t slot, const Chunk& chunk) {
    const auto at =
        static_cast<size_t>(std::lower_bound(chosen.begin(), chosen.end(), slot) - chosen.begin());
    for_values(values, searches, chunk, [&](Search& s, const Differences& ranked) {
      for (size_t i = 0; i < chunk.size(); i += 8) s.sample[at].push_back(ranked.magnitude(i));
    });
  });
}

// Finds the slot in which the last of the equal elements lies that still belong to the k.
void place_cut(Search& s, uint32_t threshold, int64_t above) {
  int64_t wanted = s.query.k - above;
  s.result.threshold = threshold;
  s.done = true;
  for (size_t i = 0; i < s.slots.size(); ++i) {
    const int64_t here = s.slots[i].equal_to(threshold, s.bracket);
    if (wanted <= here) {
      s.cut_slot = i;
      s.cut_rank = wanted;
      return;
    }
    wanted -= here;
  }
  throw failed_error("top k: the counts of the slots do not add up");
}

// Proves the threshold from the counts; not done when it lies outside the bracket.
void conclude(Search& s) {
  int64_t above = 0, at_high = 0, at_low = 0, inside = 0;
  std::vector<std::span<const uint32_t>> parts;
  for (const SlotCount& slot : s.slots) {
    above += slot.above;
    at_high += slot.at_high;
    at_low += slot.at_low;
    inside += static_cast<int64_t>(slot.inside.size());
    parts.emplace_back(slot.inside);
  }
  int64_t rank = s.query.k - above;  // among what is not above
  if (rank <= 0) return;
  if (rank <= at_high) return place_cut(s, s.bracket.high, above);
  rank -= at_high;
  above += at_high;
  if (rank <= inside) {
    const Nth found = nth_largest(parts, s.bracket, rank);
    return place_cut(s, found.value, above + found.larger);
  }
  above += inside;
  rank -= inside;
  if (s.bracket.low != s.bracket.high && rank <= at_low) place_cut(s, s.bracket.low, above);
}

// One pass over everything for all searches that are not done.
void count_all(const ChunkPass& pass, std::span<const ValueFn> values,
               std::vector<Search>& searches) {
  for (Search& s : searches) {
    if (!s.done) s.slots.assign(pass.slots(), {});
  }
  pass.run_all([&](size_t slot, const Chunk& chunk) {
    for_values(values, searches, chunk, [&](Search& s, const Differences& ranked) {
      count_chunk(ranked, chunk.size(), s.bracket, s.slots[slot]);
    });
  });
}

// Turns the rank within a slot into an index. Each slot that is read is read once.
void find_cuts(const ChunkPass& pass, std::span<const ValueFn> values,
               std::vector<Search>& searches) {
  std::vector<size_t> slots;
  for (const Search& s : searches) slots.push_back(s.cut_slot);
  std::sort(slots.begin(), slots.end());
  slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
  pass.run(slots, [&](size_t slot, const Chunk& chunk) {
    float room[kChunkElements];
    for (Search& s : searches) {  // a search's cut is in one slot, so one thread changes it
      if (s.cut_slot != slot || s.cut_rank == 0) continue;
      const Differences ranked = values[s.query.values](chunk, room);
      for (size_t i = 0; i < chunk.size() && s.cut_rank > 0; ++i) {
        if (ranked.magnitude(i) == s.result.threshold && --s.cut_rank == 0)
          s.result.equal_before = chunk.first + static_cast<int64_t>(i) + 1;
      }
    }
  });
}

}  // namespace

LEWIS_VECTORIZED static void subtract(const float* a, const float* b, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = a[i] - b[i];
}

void task_vector(const Chunk& chunk, size_t model, float* delta) {
  const auto values = chunk.models[model];
  if (chunk.base.empty()) {
    std::copy(values.begin(), values.end(), delta);
  } else {
    subtract(values.data(), chunk.base.data(), values.size(), delta);
  }
}

ValueFn task_vector_values(size_t model) {
  return [model](const Chunk& chunk, float*) {
    return Differences{chunk.models[model].data(), chunk.base.empty() ? kZeros : chunk.base.data(),
                       chunk.take_ahead(model)};
  };
}

LEWIS_VECTORIZED static void subtract_and_multiply(const float* a, const float* b,
                                                   const float* factors, size_t n, float* out) {
  for (size_t i = 0; i < n; ++i) out[i] = (a[i] - b[i]) * factors[i];
}

void scaled_task_vector(const ColumnFactors& factors, int64_t first, const float* model,
                        const float* base, std::span<float> out) {
  float room[kChunkElements];
  factors.fill(first, {room, out.size()});
  subtract_and_multiply(model, base, room, out.size(), out.data());
}

ValueFn scaled_task_vector_values(size_t model, const ColumnFactors* factors) {
  if (!factors) return task_vector_values(model);
  return [model, factors](const Chunk& chunk, float* room) {
    const float* base = chunk.base.empty() ? kZeros : chunk.base.data();
    scaled_task_vector(*factors, chunk.first, chunk.models[model].data(), base,
                       {room, chunk.size()});
    return Differences{room, kZeros};
  };
}

LEWIS_VECTORIZED static void keep_from(uint32_t smallest, const float* ranked, size_t n,
                                       float* data) {
  for (size_t i = 0; i < n; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(data[i]);
    data[i] = std::bit_cast<float>(magnitude_bits(ranked[i]) >= smallest ? bits : 0u);
  }
}

void keep_top(const TopK& top, int64_t first, std::span<const float> ranked,
              std::span<float> data) {
  const auto size = static_cast<int64_t>(data.size());
  const auto with_equal =
      static_cast<size_t>(std::clamp<int64_t>(top.equal_before - first, 0, size));
  keep_from(top.threshold, ranked.data(), with_equal, data.data());
  keep_from(top.threshold + 1, ranked.data() + with_equal, data.size() - with_equal,
            data.data() + with_equal);
}

std::vector<TopK> find_top_k(const ChunkPass& pass, std::span<const ValueFn> values,
                             std::span<const TopKQuery> queries, int64_t count) {
  if (queries.empty()) return {};  // no sample either
  std::vector<Search> searches;
  for (const TopKQuery& query : queries) {
    if (query.k < 1 || query.k > count) throw failed_error("top {} of {} elements", query.k, count);
    searches.emplace_back().query = query;
  }
  draw_samples(pass, values, searches, count);
  const auto open = [](const Search& s) { return !s.done; };
  while (std::any_of(searches.begin(), searches.end(), open)) {
    for (Search& s : searches) {
      if (!s.done) bracket_from_sample(s, count);
    }
    count_all(pass, values, searches);
    for (Search& s : searches) {
      if (s.done) continue;
      conclude(s);
      s.margin *= 8;  // a wider bracket if that was not enough; in the end it holds everything
    }
  }
  find_cuts(pass, values, searches);
  std::vector<TopK> results;
  for (const Search& s : searches) results.push_back(s.result);
  return results;
}

}  // namespace lewis
