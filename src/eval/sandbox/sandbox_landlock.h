// The file system of a program where there is no mount namespace.
#pragma once

#include "eval/sandbox/sandbox_child.h"

namespace lewis {

// From now on this process and those that it starts read what Python needs (ChildPlan::visible) and
// use the working folder, and nothing else; they look into no process that began outside (as by
// /proc/PID/mem), and send it no signal. It needs no rights, but no_new_privs. True where the
// kernel has no Landlock (before Linux 5.13): then nothing changes. Calls nothing but the kernel.
bool restrict_files(const ChildPlan& plan);

}  // namespace lewis
