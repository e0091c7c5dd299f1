// A verb of the program that is built with MPI, lewis-mpi, and of no other.
#pragma once

#include <CLI/CLI.hpp>

namespace lewis {

void add_refine_worker_verb(CLI::App& app);

}  // namespace lewis
