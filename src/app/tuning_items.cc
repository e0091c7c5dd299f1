#include "app/tuning_items.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "text/numpy_random.h"

namespace lewis {
namespace {

// What happens with each item of a file.
enum class Use : char { kFree, kUsed, kHeld };

std::vector<uint32_t> order_of(const ItemSource& source) {
  return numpy_permutation(source.seed, static_cast<uint32_t>(source.count));
}

// Marks the items that merges are made from, by content.
std::map<std::string, std::vector<Use>> used_items(std::span<const ItemSource> sources) {
  std::map<std::string, std::vector<Use>> uses;
  std::map<std::string, const ItemSource*> first;
  for (const ItemSource& source : sources) {
    const ItemSource& other = *first.emplace(source.content_hash, &source).first->second;
    if (source.format != other.format || source.count != other.count) {
      throw usage_error(
          "{} and {} hold the same text but are read in different formats ({} and {}): which items "
          "are the same is not known, so none can be held out",
          other.name, source.name, other.format, source.format);
    }
    std::vector<Use>& items = uses[source.content_hash];
    items.resize(source.count, Use::kFree);
    const std::vector<uint32_t> order = order_of(source);
    for (size_t i = 0; i < std::min(source.used, source.count); ++i) items[order[i]] = Use::kUsed;
  }
  return uses;
}

// Free items of the entry, the last of which are held out: those of its first `total` come last.
std::vector<uint32_t> free_items(const ItemSource& source, const std::vector<Use>& uses,
                                 size_t total, uint64_t seed) {
  const std::vector<uint32_t> order = order_of(source);
  std::vector<uint32_t> near, items;
  for (size_t i = 0; i < order.size(); ++i) {
    if (uses[order[i]] != Use::kUsed) (i < total ? near : items).push_back(order[i]);
  }
  std::ranges::reverse(items);
  for (const uint32_t i : numpy_permutation(seed, static_cast<uint32_t>(near.size())))
    items.push_back(near[i]);
  return items;
}

}  // namespace

std::vector<ItemParts> split_items(std::span<const ItemSource> sources, size_t entries,
                                   size_t samples, double held_out, uint64_t seed) {
  auto uses = used_items(sources);
  std::vector<ItemParts> parts(entries);
  std::vector<size_t> totals(entries);
  for (size_t e = 0; e < entries; ++e) {
    const ItemSource& source = sources[e];
    totals[e] = samples == 0 ? source.count : std::min(samples, source.count);
    const auto held = static_cast<size_t>(std::llround(held_out * static_cast<double>(totals[e])));
    if (held == 0 || held >= totals[e]) {
      throw usage_error("{}: {} items, of which {} are held out: both parts need some", source.name,
                        totals[e], held);
    }
    std::vector<Use>& items = uses[source.content_hash];
    const std::vector<uint32_t> free = free_items(source, items, totals[e], seed);
    if (free.size() < held) {
      throw usage_error(
          "{}: {} items are held out to judge the search, but merges are made from all but {} of "
          "its {} items: lower the samples of its entries or of lewis.refine (0 takes all), or "
          "--held-out",
          source.name, held, free.size(), source.count);
    }
    parts[e].held.assign(free.end() - static_cast<std::ptrdiff_t>(held), free.end());
    for (const size_t i : parts[e].held) items[i] = Use::kHeld;
    std::ranges::sort(parts[e].held);
  }
  for (size_t e = 0; e < entries; ++e) {
    const std::vector<Use>& items = uses[sources[e].content_hash];
    std::vector<size_t>& fit = parts[e].fit;
    for (const uint32_t i : order_of(sources[e])) {
      if (fit.size() + parts[e].held.size() < totals[e] && items[i] != Use::kHeld) fit.push_back(i);
    }
    if (fit.empty()) {
      throw usage_error("{}: other entries hold out all items that are left to fit to",
                        sources[e].name);
    }
    std::ranges::sort(fit);
  }
  return parts;
}

}  // namespace lewis
