// Runs the program as its user would, and looks at what it leaves behind.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "base/json.h"
#include "programs.h"
#include "snapshot.h"
#include "temp_dir.h"

namespace lewis {

struct Run {
  int code = -1;
  std::string out, err;
};

// `arguments` is given to a shell; the cache and the outputs stay in `scratch`.
inline Run run_lewis(const std::filesystem::path& scratch, const std::string& arguments,
                     const std::filesystem::path& working_directory = LEWIS_SOURCE) {
  const std::string err = (scratch / "stderr.txt").string();
  const std::string command = "cd '" + working_directory.string() + "' && LEWIS_CACHE='" +
                              (scratch / "cache").string() + "' '" + lewis_program() + "' " +
                              arguments + " 2>'" + err + "' </dev/null";
  Run run;
  FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) return run;
  char buffer[4096];
  for (size_t n = 0; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) run.out.append(buffer, n);
  const int status = pclose(pipe);
  run.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  run.err = file_text(err);
  std::filesystem::remove(err);
  return run;
}

// A test with a folder of its own, in which the program runs and writes.
class LewisTest : public testing::Test {
 protected:
  lewis::Run lewis(const std::string& arguments) { return run_lewis(dir_.path, arguments); }
  Json json(const std::string& arguments) {
    const lewis::Run result = lewis(arguments + " --json -q");
    EXPECT_EQ(result.code, 0) << result.err;
    return parse_json(result.out, "stdout");
  }
  std::string out() const { return (dir_.path / "out").string(); }
  TempDir dir_;
};

}  // namespace lewis
