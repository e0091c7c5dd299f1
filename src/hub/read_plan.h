// In which pieces, and in which order, the bytes of a pass come over the network.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "io/range_source.h"

namespace lewis {

// What is known of a file before the pass.
struct PlannedFile {
  const RangeSource* file = nullptr;
  uint64_t size = 0;
  uint64_t known = 0;  // bytes at its front that are there already
  bool is_hashed =
      true;  // its hash is to be computed, for which its bytes must come in their order
};

// A piece that one request brings. Pieces of one file come in the order of the list.
struct PlannedPiece {
  size_t file = 0;  // into ReadPlan::files
  uint64_t begin = 0, size = 0;
  size_t step = 0;            // the first that needs it
  std::vector<size_t> steps;  // all that read it; empty: only the hash needs it
  bool in_parts = false;      // of a step in_parts
};

struct ReadPlan {
  std::vector<PlannedFile> files;  // is_hashed: all bytes come, in the order of the file
  std::vector<PlannedPiece> pieces;
};

// Cuts and joins the places of the steps into pieces of at most `piece_bytes`. Each byte comes
// once, except that what several steps read is fetched again for each when it has more than 1 MiB
// and these steps are far from each other.
// Between two places at most 4 MiB, and a sixteenth of the file, are fetched as well, where the
// hash of the file can then be computed: what a later step reads of that waits for it. `files`: all
// that the steps name.
ReadPlan plan_reads(const std::vector<ReadAhead::Step>& steps, std::vector<PlannedFile> files,
                    uint64_t piece_bytes);

}  // namespace lewis
