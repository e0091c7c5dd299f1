// Which entries of a row are kept where the probability of an entry follows from the rank of its
// magnitude in the row (MAGPRUNE of DELLA: Deep et al., arXiv 2406.11617). Exact, without sorting.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lewis {

// last[rank], for the ranks 0 (the smallest) to columns - 1: a random number of 32 bits up to it
// keeps the entry. The probabilities rise from density - epsilon to density + epsilon, which must
// lie within (0, 1); a row of one entry has density. One more than columns, so that the rank behind
// the end can be looked up.
std::vector<uint32_t> last_kept_by_rank(int64_t columns, double density, double epsilon);

struct RankedEntries {
  std::span<const uint32_t> magnitudes;  // magnitude_bits
  std::span<const uint32_t> random;
  std::span<const uint32_t> last;  // of last_kept_by_rank
  std::span<uint8_t> keep;         // the result, 0 or 1

  size_t size() const { return magnitudes.size(); }
  void decide(size_t i, size_t rank) const {
    keep[i] = static_cast<uint8_t>(random[i] <= last[rank]);
  }
};

// Decides one row after the other. Counting the row's magnitudes in buckets bounds the rank of each
// entry, and with it what its random number must be to keep it; that leaves few entries open, whose
// ranks are counted one by one.
class RowDecider {
 public:
  // Among equal magnitudes the lower index has the lower rank.
  void decide(const RankedEntries& row);

 private:
  // Many entries of one magnitude, above all zeros. Their rank is their number among themselves,
  // which is bounded again for each block of entries.
  struct Crowd {
    uint32_t magnitude = 0;
    size_t bucket = 0, places = 0;
    size_t rank = 0;  // of the next one
  };
  // The last open entry of a bucket.
  struct Seen {
    uint32_t magnitude = 0, rank = 0, place = 0;
  };

  size_t buckets() const;
  void count_buckets(std::span<const uint32_t> magnitudes);
  void find_crowds(std::span<const uint32_t> magnitudes);
  void decide_by_buckets(const RankedEntries& row);
  void decide_open(const RankedEntries& row);
  void decide_sorted(const RankedEntries& row);

  size_t zeros_ = 0;                    // entries
  std::vector<int32_t> bucket_;         // of each entry
  std::vector<uint32_t> counts_, odd_;  // of each bucket; of its entries at odd places
  std::vector<uint32_t> limits_;        // of each bucket: see decide_block
  std::vector<uint8_t> open_;           // of each entry: whether its bucket does not decide
  std::vector<Crowd> crowds_;
  std::vector<Seen> seen_;      // of each bucket
  std::vector<uint64_t> keys_;  // magnitude << 32 | place
};

}  // namespace lewis
