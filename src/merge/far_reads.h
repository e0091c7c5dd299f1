// What a merge will read of files that lie at the other end of a network, said before it begins.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "io/range_source.h"
#include "merge/inputs.h"

namespace lewis {

// One pass over output tensors, each a step, in the order in which they are added.
class FarReads {
 public:
  ~FarReads();
  FarReads() = default;
  FarReads(const FarReads&) = delete;
  FarReads& operator=(const FarReads&) = delete;

  void add(const OutputTensor& tensor, bool in_parts);
  // Begins to fetch. Without any bytes that lie far away this and all that follows does nothing.
  void begin(const ReadAhead::Room& room);
  void finish(size_t step);        // ReadAhead::finish
  std::vector<std::string> end();  // ReadAhead::end
  bool is_cut() const;             // ReadAhead::is_cut

 private:
  std::vector<ReadAhead::Step> steps_;
  ReadAhead* ahead_ = nullptr;  // of the models' files, which are there as long as the models
};

}  // namespace lewis
