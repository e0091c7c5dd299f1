// The items of calibration data that a search is fitted to, and those that it is judged on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lewis {

// The items that one calibration entry of a recipe, or of one of its stages, draws from.
struct ItemSource {
  std::string name;          // the data file, for messages
  std::string content_hash;  // of the file's bytes: entries of one hash share their items
  std::string format;        // how the bytes are read as items
  size_t count = 0;          // items in the file
  uint64_t seed = 0;         // the entry's order is numpy_permutation(seed, count)
  size_t used = 0;           // how many items, in that order, a merge is made from; at most `count`
};

// Numbers of items in the file, ascending.
struct ItemParts {
  std::vector<size_t> fit, held;
};

// Splits the items of the first `entries` sources; the others only use items. No part "held" has an
// item that any source uses or that any part "fit" of the same content has. Both parts together are
// `samples` items of each entry (0, or more than there are: all), the share `held_out` of them
// held. As far as they are free, held items are drawn, by `seed`, from the first `samples` items of
// the entry's own order. Error(kUsage): too few items are free, one part is empty, or one content
// is read in two formats.
std::vector<ItemParts> split_items(std::span<const ItemSource> sources, size_t entries,
                                   size_t samples, double held_out, uint64_t seed);

}  // namespace lewis
