// How far the merged model's values are from those of the experts.
#pragma once

#include <span>
#include <vector>

#include "refine/text.h"

namespace lewis {

// || y - expert ||^2 / || expert ||^2 with the tokens' weights, the mean over the experts.
class OutputError {
 public:
  explicit OutputError(const TextRows& text) : text_(text), sums_(text.segments.size()) {}

  // Rows of `segment`, which is one of the text's: `first_row` counts from the text's first row. y
  // and expert: [rows, columns].
  void add(const Segment& segment, int64_t first_row, int64_t columns, std::span<const float> y,
           const float* expert);
  double value() const;
  // The sums so far, for another process that goes on with them.
  std::span<std::byte> bytes() { return std::as_writable_bytes(std::span(sums_)); }

 private:
  struct Sums {
    double difference = 0, size = 0;
  };
  const TextRows& text_;
  std::vector<Sums> sums_;  // per segment
};

}  // namespace lewis
