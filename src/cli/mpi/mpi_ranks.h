// The processes that one mpirun has started.
#pragma once

#include "refine/communicator.h"

namespace lewis {

// Begins MPI, and ends it. All calls come from the thread that has made it. What goes wrong in MPI
// itself ends all processes, with MPI's message.
class MpiRanks final : public Communicator {
 public:
  MpiRanks();
  ~MpiRanks() override;
  MpiRanks(const MpiRanks&) = delete;
  MpiRanks& operator=(const MpiRanks&) = delete;

  size_t rank() const override { return rank_; }
  size_t size() const override { return size_; }
  void broadcast(std::span<std::byte> bytes, size_t from) const override;
  void collect(std::span<std::byte> bytes, size_t from) const override;
  void join(std::span<double> values) const override;

  // Ends all processes with this exit code.
  [[noreturn]] void end_all(int code) const;

 private:
  size_t rank_ = 0, size_ = 1;
};

}  // namespace lewis
