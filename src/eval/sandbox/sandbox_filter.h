// The system calls that the sandbox lets through: what CPython needs to compute, print and use
// files of its own.
#pragma once

#include "eval/sandbox/sandbox_child.h"

namespace lewis {

// Fills filter and own_pid. Calls of the list pass; those that only an attack or another process
// needs kill the program; all others answer ENOSYS, as an older kernel would. False on machines
// that are neither x86-64 nor aarch64.
bool make_filter(ChildPlan& plan);

}  // namespace lewis
