// The processes that refine one merge together (docs/clusters.md), and what they tell each other.
//
// Each of them has all models and all texts, and goes through the same steps in the same order. The
// costly pieces of a step are dealt out: groups of sequences to mixers, tiles of Gram matrices,
// panels of output channels to the least squares. A piece is computed by one process, by the same
// instructions as in a program that is alone, and then everybody gets its result. No sum is cut
// between processes, so the result has the bits of one process, whatever their number.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>

namespace lewis {

// Every process makes the same calls in the same order, from one thread. An Error in one of them
// must end all: the others wait for it.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual size_t rank() const = 0;
  virtual size_t size() const = 0;
  // Every process gets the bytes that process `from` has.
  virtual void broadcast(std::span<std::byte> bytes, size_t from) const = 0;
  // Process 0 gets the bytes that process `from` has. The other ones may pass anything.
  virtual void collect(std::span<std::byte> bytes, size_t from) const = 0;
  // Every process gets the sums over all of them. Of each entry at most one process has a value
  // that is not zero, so that every order of adding gives the same bits.
  virtual void join(std::span<double> values) const = 0;

  bool is_first() const { return rank() == 0; }
};

// A program that is alone.
class OneProcess final : public Communicator {
 public:
  size_t rank() const override { return 0; }
  size_t size() const override { return 1; }
  void broadcast(std::span<std::byte>, size_t) const override {}
  void collect(std::span<std::byte>, size_t) const override {}
  void join(std::span<double>) const override {}
};
inline const OneProcess kOneProcess;

// Deals pieces out, one per process and round: compute(piece) is called for this process's own, and
// then take(piece, owner) for every piece of the round, in order and in all processes.
template <typename Compute, typename Take>
void in_rounds(const Communicator& ranks, size_t pieces, const Compute& compute, const Take& take) {
  for (size_t first = 0; first < pieces; first += ranks.size()) {
    if (first + ranks.rank() < pieces) compute(first + ranks.rank());
    const size_t end = std::min(pieces, first + ranks.size());
    for (size_t piece = first; piece < end; ++piece) take(piece, piece - first);
  }
}

}  // namespace lewis
