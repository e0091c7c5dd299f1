#include "merge/common/assignment.h"

#include <limits>

namespace lewis {
namespace {

constexpr size_t kNone = std::numeric_limits<size_t>::max();

// Rows are taken in one after the other; each time the matching grows along the path of the
// smallest reduced cost, cost - row's potential - column's potential, which is never negative.
class Matching {
 public:
  Matching(std::span<const double> cost, size_t n)
      : cost_(cost), n_(n), of_row_(n), of_column_(n), row_of_(n, kNone) {}

  std::vector<size_t> run() {
    for (size_t row = 0; row < n_; ++row) take_in(row);
    std::vector<size_t> column_of(n_);
    for (size_t column = 0; column < n_; ++column) column_of[row_of_[column]] = column;
    return column_of;
  }

 private:
  void take_in(size_t first) {
    std::vector<double> slack(n_, std::numeric_limits<double>::infinity());
    std::vector<size_t> before(n_, kNone);  // the column before it on the path; kNone: `first`
    std::vector<bool> reached(n_);
    size_t row = first, column = kNone;
    do {
      const size_t next = nearest(row, column, reached, slack, before);
      const double step = slack[next];
      of_row_[first] += step;
      for (size_t c = 0; c < n_; ++c) {
        if (reached[c]) {
          of_row_[row_of_[c]] += step;
          of_column_[c] -= step;
        } else {
          slack[c] -= step;
        }
      }
      reached[next] = true;
      column = next;
      row = row_of_[column];
    } while (row != kNone);
    for (; before[column] != kNone; column = before[column])
      row_of_[column] = row_of_[before[column]];
    row_of_[column] = first;
  }

  // The column outside of the tree that is nearest to it, now that `row` belongs to it.
  size_t nearest(size_t row, size_t column, const std::vector<bool>& reached,
                 std::vector<double>& slack, std::vector<size_t>& before) const {
    size_t found = kNone;
    for (size_t c = 0; c < n_; ++c) {
      if (reached[c]) continue;
      const double own = cost_[row * n_ + c] - of_row_[row] - of_column_[c];
      if (own < slack[c]) {
        slack[c] = own;
        before[c] = column;
      }
      if (found == kNone || slack[c] < slack[found]) found = c;
    }
    return found;
  }

  std::span<const double> cost_;
  size_t n_;
  std::vector<double> of_row_, of_column_;  // potentials
  std::vector<size_t> row_of_;              // of each column; kNone: not matched yet
};

double sum_of(std::span<const double> cost, size_t n, const std::vector<size_t>& column_of) {
  double sum = 0;
  for (size_t row = 0; row < n; ++row) sum += cost[row * n + column_of[row]];
  return sum;
}

}  // namespace

std::vector<size_t> cheapest_assignment(std::span<const double> cost, size_t n) {
  return Matching(cost, n).run();
}

std::vector<size_t> cheapest_assignment(std::span<const double> cost, size_t n, size_t groups) {
  if (groups <= 1) return cheapest_assignment(cost, n);
  const size_t own = n / groups;
  std::vector<std::vector<size_t>> within;  // [groups, groups]
  std::vector<double> of_groups, block(own * own);
  for (size_t g = 0; g < groups; ++g) {
    for (size_t h = 0; h < groups; ++h) {
      for (size_t i = 0; i < own * own; ++i)
        block[i] = cost[(g * own + i / own) * n + h * own + i % own];
      within.push_back(cheapest_assignment(block, own));
      of_groups.push_back(sum_of(block, own, within.back()));
    }
  }
  const std::vector<size_t> group_of = cheapest_assignment(of_groups, groups);
  std::vector<size_t> column_of(n);
  for (size_t row = 0; row < n; ++row) {
    const size_t g = row / own, h = group_of[g];
    column_of[row] = h * own + within[g * groups + h][row % own];
  }
  return column_of;
}

}  // namespace lewis
