// How many directions of each matrix a low-rank adapter keeps.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace lewis {

// What is known of a matrix [rows, columns] whose rank is to be chosen.
struct MatrixSpectrum {
  int64_t rows = 0, columns = 0;
  std::vector<double> values;  // the largest singular values, falling
  double squares = 0;          // the sum of the squares of all
};

// The ranks that give the least error for as many numbers as the rank `uniform` takes everywhere:
// directions are taken by their squared singular value per number (rows + columns), the best first.
std::vector<int64_t> ranks_for_size(std::span<const MatrixSpectrum> matrices, int64_t uniform);

// The ranks of fewest numbers, by the same order, that leave at most error^2 of the squares of all
// matrices together; nothing where the values that are known do not suffice.
std::optional<std::vector<int64_t>> ranks_for_error(std::span<const MatrixSpectrum> matrices,
                                                    double error);
// The smallest rank for all matrices that does.
std::optional<int64_t> rank_for_error(std::span<const MatrixSpectrum> matrices, double error);

}  // namespace lewis
