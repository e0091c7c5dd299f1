// Runs Python that a model wrote, closed in: own user, mount, network, pid and ipc namespaces, no
// new privileges, a filter of system calls, resource limits, an empty temporary folder, an empty
// environment, a limit of time. docs/sandbox.md: what stops what, and what nothing stops.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lewis {

struct ChildPlan;

enum class SandboxLayer {
  kUser,     // a user namespace with nobody in it; for root without one: the user 65534
  kMounts,   // a root of its own: Python's files, read-only, and an empty /tmp in memory
  kPids,     // its processes see no others, and end with it
  kNetwork,  // no network, not even the machine's own addresses
  kIpc,
  kNoNewPrivileges,
  kFilter,  // seccomp: system calls that a small program has no need of
  kLimits,  // rlimits
};
constexpr size_t kSandboxLayers = 8;
std::string_view layer_name(SandboxLayer layer);

struct SandboxLimits {
  std::chrono::milliseconds wall{15'000};
  uint64_t cpu_seconds = 5;
  uint64_t memory = uint64_t{512} << 20;   // address space
  uint64_t file_size = uint64_t{1} << 20;  // of each file; /tmp holds 16 MiB
  uint64_t output = uint64_t{16} << 20;    // a program that prints more is stopped
  size_t kept_output = size_t{16} << 10;   // the end of it
};

enum class Verdict {
  kPassed,   // ran to the end of its tests
  kFailed,   // an exception, a limit of memory or output, an end before that of the tests
  kTimeout,  // of processor or clock
  kRefused,  // stopped at a system call that is not allowed
};
std::string_view verdict_name(Verdict verdict);

struct ProgramResult {
  Verdict verdict = Verdict::kFailed;
  std::string reason;  // "" when passed; "AssertionError", "5 s of processor time", ...
  std::string output;  // the end of its output, standard error included; UTF-8
};

// The interpreter, and the parts of the file system that it needs.
struct PythonInstall {
  std::string executable;  // "": no interpreter was found
  std::string version;
  std::string library_path;          // "LD_LIBRARY_PATH=...": where libpython may be
  std::vector<std::string> visible;  // files and folders
};
// python3 of PATH, else of /usr/bin or /usr/local/bin.
PythonInstall find_python();

// May be used by several threads at a time. Processes and files that a program makes are gone when
// run() returns, and when this process dies.
class Sandbox {
 public:
  // Finds out with a trial program which layers this machine gives; the others are left out.
  // Removes the working folders that killed processes have left.
  explicit Sandbox(SandboxLimits limits = {}, PythonInstall python = find_python());

  struct LayerState {
    SandboxLayer layer;
    bool on = true;
    std::string why_not;
  };
  const std::vector<LayerState>& layers() const { return layers_; }
  const PythonInstall& python() const { return python_; }
  // "": programs can be run. Else why not: no python3, or one that does not start.
  const std::string& cannot_run() const { return cannot_run_; }
  // The layers that are off and why, for messages; "": all are on.
  std::string missing_layers() const;
  bool has(SandboxLayer layer) const { return layers_[static_cast<size_t>(layer)].on; }

  // For tests: as if the machine did not have it.
  void leave_out(SandboxLayer layer, std::string why_not);

  // Runs a program and then, in the same namespace, its tests. Throws Error(kFailed) when the
  // sandbox itself cannot be set up, Error(kResource) when there are no more processes or files.
  ProgramResult run(std::string_view program, std::string_view tests) const;

 private:
  void find_layers();
  void find_namespaces();
  ChildPlan plan() const;

  SandboxLimits limits_;
  PythonInstall python_;
  std::vector<LayerState> layers_;
  std::string cannot_run_;
  bool user_namespace_ = false;
};

}  // namespace lewis
