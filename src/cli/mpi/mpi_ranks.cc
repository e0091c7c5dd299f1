#include "cli/mpi/mpi_ranks.h"

#include <mpi.h>

#include <algorithm>
#include <cstdlib>

namespace lewis {
namespace {

constexpr size_t kMostBytes = size_t{1} << 30;  // of one message, which MPI counts with an int

// f(bytes, count) for pieces that one message can have.
template <typename F>
void for_messages(std::span<std::byte> bytes, const F& f) {
  for (size_t first = 0; first < bytes.size(); first += kMostBytes) {
    const size_t count = std::min(kMostBytes, bytes.size() - first);
    f(bytes.data() + first, static_cast<int>(count));
  }
}

}  // namespace

MpiRanks::MpiRanks() {
  int provided = 0, rank = 0, size = 1;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  rank_ = static_cast<size_t>(rank);
  size_ = static_cast<size_t>(size);
}

MpiRanks::~MpiRanks() { MPI_Finalize(); }

void MpiRanks::broadcast(std::span<std::byte> bytes, size_t from) const {
  for_messages(bytes, [&](std::byte* data, int count) {
    MPI_Bcast(data, count, MPI_BYTE, static_cast<int>(from), MPI_COMM_WORLD);
  });
}

void MpiRanks::collect(std::span<std::byte> bytes, size_t from) const {
  if (from == 0 || (rank_ != 0 && rank_ != from)) return;
  for_messages(bytes, [&](std::byte* data, int count) {
    if (rank_ == from) {
      MPI_Send(data, count, MPI_BYTE, 0, 0, MPI_COMM_WORLD);
    } else {
      MPI_Recv(data, count, MPI_BYTE, static_cast<int>(from), 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
  });
}

void MpiRanks::join(std::span<double> values) const {
  constexpr size_t kMost = kMostBytes / sizeof(double);
  for (size_t first = 0; first < values.size(); first += kMost) {
    const auto count = static_cast<int>(std::min(kMost, values.size() - first));
    MPI_Allreduce(MPI_IN_PLACE, values.data() + first, count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
  }
}

void MpiRanks::end_all(int code) const {
  MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

}  // namespace lewis
