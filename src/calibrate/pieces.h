// The statistics of one model on one text in pieces, which several workers measure beside each
// other (docs/clusters.md). A piece is a run of sequences (calibration_pieces()). Its sums lie in a
// file of their own, under a hash of all that they depend on, until all pieces are there and the
// sum of them goes into the cache. It has the bits that calibrate() gives.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "calibrate/cache.h"
#include "calibrate/statistics.h"
#include "io/workers.h"

namespace lewis {

// The folder HASH.pieces in the cache: files PIECE.safetensors, and those of io/workers.h.
class PiecesFolder {
 public:
  // `key`: of the statistics.
  PiecesFolder(const std::filesystem::path& cache, StatisticsKey key, size_t pieces);

  const std::filesystem::path& path() const { return folder_; }
  size_t pieces() const { return pieces_; }
  // "007", as claims name it.
  static std::string name_of(size_t piece);

  // Whether the file of a piece is there; what is in it is seen by join().
  bool has(size_t piece) const;
  // Writes a piece under a name that nobody else uses, flushes it and renames it.
  void write(Worker& worker, size_t piece, Statistics statistics) const;

  // Writes the sum of all pieces into the cache, durably, and removes the folder; then `missing` is
  // empty. Else returns the pieces that are missing; files that cannot be believed are removed.
  std::vector<size_t> join() const;

 private:
  StatisticsKey key_of_piece(size_t piece) const;
  std::filesystem::path file_of(size_t piece) const;

  std::filesystem::path cache_, folder_;
  StatisticsKey key_;
  size_t pieces_;
};

}  // namespace lewis
