// The assignment problem: rows go to columns, each to one of its own, for the smallest sum of
// costs.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace lewis {

// cost: [n, n], finite. The column of each row, so that the sum of costs is the smallest one.
// Shortest augmenting paths with potentials (Kuhn 1955, Munkres 1957; Edmonds and Karp 1972): n^3
// steps. Among equal sums the choice is the same everywhere.
std::vector<size_t> cheapest_assignment(std::span<const double> cost, size_t n);

// The same where rows and columns stand in `groups` runs of the same length (n is a multiple of
// it), and the rows of a run must go to the columns of one run.
std::vector<size_t> cheapest_assignment(std::span<const double> cost, size_t n, size_t groups);

}  // namespace lewis
