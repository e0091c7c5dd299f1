#include "base/column_factors.h"

#include <algorithm>

#include "base/hash.h"

namespace lewis {

void ColumnFactors::fill(int64_t first, std::span<float> out) const {
  for (size_t done = 0; done < out.size();) {
    const int64_t element = first + static_cast<int64_t>(done), column = element % columns;
    const size_t n = std::min(out.size() - done, static_cast<size_t>(columns - column));
    const auto from = values.begin() + element / (rows * columns) * columns + column;
    std::copy_n(from, n, out.begin() + static_cast<std::ptrdiff_t>(done));
    done += n;
  }
}

bool ColumnFactors::fits(int64_t count) const {
  return rows > 0 && columns > 0 && static_cast<int64_t>(values.size()) % columns == 0 &&
         static_cast<int64_t>(values.size()) * rows == count;
}

std::string hash_of(const ColumnFactorMap& factors) {
  Sha256 hash;
  for (const auto& [name, f] : factors) {
    const int64_t sizes[] = {static_cast<int64_t>(name.size()), f.rows, f.columns,
                             static_cast<int64_t>(f.values.size())};
    hash.add(name).add(std::as_bytes(std::span(sizes))).add(std::as_bytes(std::span(f.values)));
  }
  return hash.hex();
}

}  // namespace lewis
