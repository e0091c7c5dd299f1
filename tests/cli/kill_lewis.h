// Runs of the program that are killed.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "programs.h"

namespace lewis {

// Starts the program and kills it after some time.
inline void run_and_kill(const std::string& arguments, int milliseconds) {
  std::string shell = "sh", flag = "-c",
              line = "exec '" + lewis_program() + "' " + arguments + " >/dev/null 2>&1 </dev/null";
  char* words[] = {shell.data(), flag.data(), line.data(), nullptr};
  pid_t child = 0;
  ASSERT_EQ(posix_spawnp(&child, "sh", nullptr, nullptr, words, environ), 0);
  usleep(static_cast<useconds_t>(milliseconds) * 1000);
  kill(child, SIGKILL);
  int status = 0;
  waitpid(child, &status, 0);
}

}  // namespace lewis
