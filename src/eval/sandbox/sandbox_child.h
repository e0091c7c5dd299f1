// The side of the sandbox that runs between clone() and exec. It is a copy of a process with many
// threads, of which only one goes on, so it may call nothing but the kernel: no memory, no locks.
// All that it needs is prepared in a ChildPlan.
#pragma once

#include <linux/filter.h>
#include <sys/types.h>

#include <bitset>
#include <cstdint>
#include <string>
#include <vector>

#include "eval/sandbox/sandbox.h"

namespace lewis {

constexpr uid_t kNobody = 65534;

// One step in building the root of the sandbox.
struct RootStep {
  enum class Kind { kFolder, kFile, kLink, kBind };
  Kind kind;
  std::string path;
  std::string from;  // of a link: its text; of a bind mount: what is shown
};

struct ChildPlan {
  std::bitset<kSandboxLayers> layers;
  bool change_user = false;      // to 65534: root, where there is no user namespace
  std::string uid_map, gid_map;  // of the user namespace
  std::vector<RootStep> root;
  std::string folder;                // the working folder where there are no mounts
  std::vector<std::string> visible;  // what Python needs, where there are no mounts
  SandboxLimits limits;
  std::vector<sock_filter> filter;
  std::vector<size_t> own_pid;  // instructions of the filter that compare with the program's pid
  std::vector<const char*> arguments, environment;  // ended by null pointers
  int standard_input = -1, output = -1, channel = -1, status = -1;

  bool has(SandboxLayer layer) const { return layers[static_cast<size_t>(layer)]; }
};

// A message of the child on its status pipe.
struct ChildStatus {
  enum What : int32_t { kExited, kFailedLayer, kFailedStart };
  int32_t what = kExited;
  int32_t layer = 0;       // kFailedLayer
  int32_t value = 0;       // an errno; kExited: a wait status
  int32_t cpu_millis = 0;  // kExited
};

// Flags of clone() for the namespaces of a plan.
int namespace_flags(const ChildPlan& plan);

// clone() as fork() does it, without the handlers of the C library. 0 in the child.
pid_t clone_process(int flags);

// The first process of the sandbox: builds it, starts Python, waits for it, reports the outcome.
[[noreturn]] void run_child(ChildPlan& plan);

}  // namespace lewis
