// The interpreter of the sandbox: which one, and what it needs of the file system.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "base/text_file.h"
#include "eval/sandbox/sandbox.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// A python3 of PATH may be a script that chooses one; this one says where it is.
constexpr const char* kQuestion =
    "import os, sys; print(os.path.realpath(sys.executable), "
    "sys.base_exec_prefix, '%d.%d.%d' % sys.version_info[:3], sep='\\n')";

std::vector<fs::path> candidates() {
  std::vector<fs::path> found;
  const char* variable = std::getenv("PATH");
  std::string_view rest = variable ? variable : "";
  while (!rest.empty()) {
    const std::string_view folder = rest.substr(0, rest.find(':'));
    rest.remove_prefix(std::min(rest.size(), folder.size() + 1));
    if (folder.starts_with('/')) found.push_back(fs::path(folder) / "python3");
  }
  found.insert(found.end(), {"/usr/bin/python3", "/usr/local/bin/python3"});
  return found;
}

// The output of a program; "" when it cannot be started or fails.
std::string output_of(const char* program, std::vector<const char*> arguments) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return "";
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  arguments.push_back(nullptr);
  posix_spawnattr_t attributes;  // it may be interrupted
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  pid_t child = -1;
  const int error = posix_spawn(&child, program, &files, &attributes,
                                const_cast<char* const*>(arguments.data()), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  close(ends[1]);
  std::string text;
  std::array<char, 4096> buffer;
  ssize_t n = 0;
  while (error == 0 && (n = read(ends[0], buffer.data(), buffer.size())) > 0) {
    text.append(buffer.data(), static_cast<size_t>(n));
  }
  close(ends[0]);
  int status = 0;
  if (error != 0 || waitpid(child, &status, 0) != child || status != 0) return "";
  return text;
}

}  // namespace

PythonInstall find_python() {
  for (const fs::path& candidate : candidates()) {
    if (access(candidate.c_str(), X_OK) != 0) continue;
    const std::string answer =
        output_of(candidate.c_str(), {candidate.c_str(), "-I", "-S", "-c", kQuestion});
    const auto lines = split_lines(answer);
    if (lines.size() < 3 || lines[0].empty()) continue;
    const std::string libraries = std::string(lines[1]) + "/lib";
    PythonInstall python;
    python.executable = lines[0];
    python.version = lines[2];
    python.library_path = "LD_LIBRARY_PATH=" + libraries;
    python.visible = {"/usr", "/lib", "/lib64", libraries, python.executable};
    return python;
  }
  return {};
}

}  // namespace lewis
