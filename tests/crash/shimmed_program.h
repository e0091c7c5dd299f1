// The program with the shim (shim.cc), as a process that says nothing.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "golden_file.h"
#include "programs.h"

extern char** environ;

namespace lewis {

// `settings` ("NAME=VALUE") come before the variables of this process.
inline pid_t start_shimmed(std::vector<std::string> arguments, std::vector<std::string> settings) {
  arguments.insert(arguments.begin(), program_beside("lewis_shimmed"));
  for (char** v = environ; *v; ++v) settings.emplace_back(*v);
  std::vector<char*> argv, envp;
  for (std::string& word : arguments) argv.push_back(word.data());
  for (std::string& setting : settings) envp.push_back(setting.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  posix_spawn_file_actions_t quiet;
  posix_spawn_file_actions_init(&quiet);
  for (const int fd : {1, 2})
    posix_spawn_file_actions_addopen(&quiet, fd, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  EXPECT_EQ(posix_spawn(&pid, argv[0], &quiet, nullptr, argv.data(), envp.data()), 0);
  posix_spawn_file_actions_destroy(&quiet);
  return pid;
}

// The exit code, or 128 and the number of the signal.
inline int wait_for(pid_t pid) {
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// How many calls that change files a run makes; `run` takes settings and returns the exit code. The
// number is written to a file in `scratch`.
template <typename Run>
long calls_of(const std::filesystem::path& scratch, const Run& run) {
  const std::string file = (scratch / "count").string();
  EXPECT_EQ(run(std::vector<std::string>{"SHIM_COUNT=" + file}), 0);
  return std::stol(file_text(file));
}

// The quickest of three runs that write `out`, which is removed after each, so that a moment within
// it is seldom behind the end of another.
template <typename Run>
std::chrono::microseconds quickest_of_three(const Run& run, const std::filesystem::path& out) {
  using Clock = std::chrono::steady_clock;
  Clock::duration quickest = Clock::duration::max();
  for (int i = 0; i < 3; ++i) {
    const Clock::time_point begin = Clock::now();
    EXPECT_EQ(run(), 0);
    quickest = std::min(quickest, Clock::now() - begin);
    std::filesystem::remove_all(out);
  }
  return std::chrono::duration_cast<std::chrono::microseconds>(quickest);
}

}  // namespace lewis
