// The program as a process: standard files that are closed, full or gone, limits of the system,
// signals.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>
#include <utility>

#include "programs.h"
#include "run_lewis.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr int kClosed = -1;

struct Pipe {
  Pipe() { EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0); }
  ~Pipe() {
    close(ends[0]);
    close(ends[1]);
  }
  void stop_reading() { close(std::exchange(ends[0], -1)); }
  // Writes until nothing more goes in.
  void fill() {
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    const std::string block(4096, 'x');
    while (write(ends[1], block.data(), block.size()) > 0) {
    }
    fcntl(ends[1], F_SETFL, 0);
  }
  std::array<int, 2> ends{-1, -1};
};

class Process : public testing::Test {
 protected:
  // The exit code of a shell, 128 + signal where that ended it. {} in the command is the program.
  int shell(std::string command) {
    for (size_t at; (at = command.find("{}")) != std::string::npos;)
      command.replace(at, 2, "LEWIS_CACHE='" + path("cache") + "' '" + lewis_program() + "'");
    const int status = std::system(("cd '" LEWIS_SOURCE "' && " + command).c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  // Starts the program with these files as its standard ones.
  pid_t start(const std::string& arguments, std::array<int, 3> files) {
    const pid_t child = fork();
    if (child != 0) return child;
    for (int i = 0; i < 3; ++i) {
      const int file = files[static_cast<size_t>(i)];
      file == kClosed ? close(i) : dup2(file, i);
    }
    const std::string command =
        "cd '" LEWIS_SOURCE "' && exec '" + lewis_program() + "' " + arguments;
    const std::string cache = "LEWIS_CACHE=" + path("cache");
    const char* environment[] = {cache.c_str(), nullptr};
    const char* words[] = {"sh", "-c", command.c_str(), nullptr};
    execve("/bin/sh", const_cast<char* const*>(words), const_cast<char* const*>(environment));
    _exit(127);
  }

  // Starts it so that it waits for somebody to read its output, and has begun to catch signals.
  pid_t start_waiting(const Pipe& full) {
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const pid_t child = start("inspect demo/models/base", {null, full.ends[1], null});
    close(null);
    const std::string status = "/proc/" + std::to_string(child) + "/status";
    for (int i = 0; i < 3000; ++i) {
      std::ifstream file(status);
      uint64_t blocked = 0;
      for (std::string word; file >> word;) {
        if (word == "SigBlk:") file >> std::hex >> blocked;
      }
      if (blocked >> (SIGTERM - 1) & 1) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    return child;
  }

  // The exit code, or 128 + signal.
  static int end_of(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  std::string path(const std::string& name) const { return (dir_.path / name).string(); }
  std::string text(const std::string& name) const { return file_text(dir_.path / name); }

  // Behind notes, one line that begins like an error of lewis.
  void expect_error_line(const std::string& file) {
    std::string said = text(file);
    while (said.starts_with("lewis: note:")) said.erase(0, said.find('\n') + 1);
    EXPECT_TRUE(said.starts_with("lewis: error:")) << said;
    EXPECT_EQ(std::ranges::count(said, '\n'), 1) << said;
    EXPECT_EQ(said.find("unexpected"), std::string::npos) << said;
  }

  TempDir dir_;
};

const std::string kMerge = "merge demo/recipe.yml ";
const std::string kPlain = " --no-guidance -q";

// A file of the output must not get the number of a standard file and then a message.
TEST_F(Process, WorksWithClosedStandardFiles) {
  ASSERT_EQ(shell("{} " + kMerge + path("whole") + kPlain + " >/dev/null"), 0);
  const std::string expected = text("whole/model.safetensors");
  const char* const kCloses[] = {"<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">&- 2>&-", "<&- 2>&-"};
  for (const char* closed : kCloses) {
    EXPECT_EQ(shell("{} " + kMerge + path("out") + " --no-guidance --force " + closed +
                    (std::string(closed).find(">&-") == 0 ? "" : " >/dev/null")),
              0)
        << closed;
    EXPECT_EQ(text("out/model.safetensors"), expected) << closed;
    EXPECT_EQ(shell("{} verify " + path("out") + " -q >/dev/null"), 0) << closed;
  }
  EXPECT_EQ(shell("{} inspect nowhere 2>&-"), 3) << "an error that nobody can read";
}

TEST_F(Process, AFullStandardOutputIsAnError) {
  ASSERT_EQ(shell("{} " + kMerge + path("out") + kPlain + " >/dev/null"), 0);
  const std::string out = path("out");
  const std::string loss = " --task loss:demo/data/math_test.jsonl:gsm8k --limit 1 -q";
  const std::string calibrate =
      "calibrate demo/models/base --data demo/data/math_train.jsonl --format gsm8k --samples 1 -q";
  const std::string kCommands[] = {"inspect " + out,
                                   "inspect " + out + " --json",
                                   "inspect " + out + " model.norm.weight",
                                   "verify -q " + out,
                                   "verify -q --json " + out,
                                   "diff -q " + out + " " + out,
                                   "diff -q --json " + out + " " + out,
                                   "check demo/recipe.yml",
                                   "plan -q demo/recipe.yml",
                                   "report -q --no-diagnostics " + out,
                                   calibrate,
                                   calibrate + " --json",
                                   "eval demo/models/base" + loss,
                                   "eval demo/models/base --json" + loss,
                                   kMerge + path("other") + kPlain + " --dry-run",
                                   kMerge + path("other") + kPlain + " --explain model.norm.weight",
                                   kMerge + path("merged") + kPlain,
                                   "--help",
                                   "merge --help",
                                   "--version"};
  for (const std::string& command : kCommands) {
    EXPECT_EQ(shell("{} " + command + " >/dev/full 2>'" + path("err") + "'"), 4) << command;
    expect_error_line("err");
    EXPECT_NE(text("err").find("standard output"), std::string::npos) << text("err");
  }
  EXPECT_EQ(shell("{} verify -q " + path("merged") + " >/dev/null"), 0) << "it was merged";
}

TEST_F(Process, AReaderThatGoesAwayIsNoFailure) {
  Pipe gone;
  gone.stop_reading();
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  EXPECT_EQ(
      end_of(start(kMerge + path("out") + " --no-guidance", {null, gone.ends[1], gone.ends[1]})), 0)
      << "a merge goes on without its progress";
  EXPECT_EQ(shell("{} verify -q " + path("out") + " >/dev/null"), 0);
  for (const std::string command : {"inspect demo/models/base", "inspect demo/models/base --json",
                                    "diff demo/models/base demo/models/math -q", "--help"}) {
    const int err = open(path("err").c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    EXPECT_EQ(end_of(start(command, {null, gone.ends[1], err})), 0) << command;
    EXPECT_EQ(text("err"), "") << command;
    close(err);
  }
  close(null);
}

TEST_F(Process, CountsThatNobodyHas) {
  for (const std::string count : {"-1", "99999999", "18446744073709551615", "1e99", "x", ""}) {
    EXPECT_EQ(shell("{} " + kMerge + path("out") + kPlain + " -j '" + count + "' 2>'" +
                    path("err") + "'"),
              2)
        << count;
    expect_error_line("err");
  }
  const std::string eval =
      "{} eval demo/models/base --task loss:demo/data/math_test.jsonl:gsm8k -q ";
  for (const char* option : {"--limit -1", "--max-new-tokens -1", "--shots -2", "--seed -1",
                             "--window -1", "--stride -1"}) {
    EXPECT_EQ(shell(eval + option + " 2>'" + path("err") + "'"), 2) << option;
    expect_error_line("err");
  }
  EXPECT_EQ(shell("{} diff demo/models/base demo/models/base -q --top -1 2>'" + path("err") + "'"),
            2);
  EXPECT_FALSE(fs::exists(path("out")));
}

TEST_F(Process, LackOfThreadsAndMemoryIsAnError) {
  if (sanitized()) GTEST_SKIP();  // its shadow memory does not fit into a limit of addresses
  for (const char* threads : {"2000", "500"}) {
    EXPECT_EQ(shell("(ulimit -v 2000000; {} " + kMerge + path("out") + kPlain + " -j " + threads +
                    " 2>'" + path("err") + "')"),
              4);
    expect_error_line("err");
  }
  // From too little for the program's libraries to enough.
  for (int kilobytes = 60'000;; kilobytes += 5'000) {
    const int code =
        shell("(ulimit -v " + std::to_string(kilobytes) + "; {} " + kMerge + path("out") + kPlain +
              " -j 3 --force >/dev/null 2>'" + path("err") + "')");
    EXPECT_TRUE(code == 0 || code == 4 || code == 127) << kilobytes << ": " << code << text("err");
    if (code == 4) expect_error_line("err");
    if (code == 0) break;
    ASSERT_LT(kilobytes, 2'000'000);
  }
}

TEST_F(Process, FilesThatMayNotGrowAreAnError) {
  for (const char* blocks : {"1", "100", "1000"}) {
    EXPECT_EQ(shell("(ulimit -f " + std::string(blocks) + "; {} " + kMerge + path("out") + kPlain +
                    " --force >/dev/null 2>'" + path("err") + "')"),
              4)
        << blocks;
    expect_error_line("err");
    EXPECT_FALSE(fs::exists(path("out")));
  }
}

// Ends within two seconds whatever it is doing: here it waits for somebody to read its output.
TEST_F(Process, OneSignalIsEnough) {
  signal(SIGHUP, SIG_DFL);  // as if the tests did not run under nohup
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    Pipe full;
    full.fill();
    const pid_t child = start_waiting(full);
    const auto begin = Clock::now();
    kill(child, signal);
    EXPECT_EQ(end_of(child), 130) << strsignal(signal);
    EXPECT_LT(Clock::now() - begin, std::chrono::milliseconds(sanitized() ? 8000 : 3000));
  }
}

TEST_F(Process, ASecondSignalEndsItAtOnce) {
  Pipe full;
  full.fill();
  const pid_t child = start_waiting(full);
  kill(child, SIGTERM);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  kill(child, SIGTERM);
  EXPECT_EQ(end_of(child), 128 + SIGTERM);
}

TEST_F(Process, NohupHolds) {
  Pipe full;
  full.fill();
  signal(SIGHUP, SIG_IGN);
  const pid_t child = start_waiting(full);
  signal(SIGHUP, SIG_DFL);
  kill(child, SIGHUP);
  std::this_thread::sleep_for(std::chrono::milliseconds(1800));
  EXPECT_EQ(waitpid(child, nullptr, WNOHANG), 0) << "it still waits for its reader";
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

// Names that no file system has, links in a circle, bytes that are not UTF-8: 2 or 3 and one line.
TEST_F(Process, StrangePathsAreRefused) {
  const std::string name(300, 'n'), circle = path("circle"), bad = path("b\xdd\xffz");
  fs::create_symlink("circle", circle);
  std::string deep = path("d");
  for (int i = 0; i < 2500; ++i) deep += "/d";
  const std::string loss = "demo/data/math_test.jsonl:gsm8k --limit 1 -q";
  const std::string data = " --data demo/data/math_train.jsonl --format gsm8k --samples 1 -q";
  for (const std::string& strange : {path(name), circle, circle + "/x", deep, bad + "/x"}) {
    const std::string p = "'" + strange + "'";
    const std::string kCommands[] = {"inspect " + p,
                                     "verify " + p,
                                     "diff demo/models/base " + p,
                                     "check " + p,
                                     "merge " + p + " " + path("out"),
                                     "report " + p,
                                     "calibrate " + p + data,
                                     "calibrate demo/models/base -q --data " + p,
                                     "eval " + p + " --task loss:" + loss,
                                     "eval demo/models/base -q --task loss:" + p + ":gsm8k",
                                     "eval demo/models/base -q --results " + p,
                                     "eval demo/models/base --kl-to " + p + " --task kl:" + loss,
                                     "tune " + p + " -o " + path("out")};
    for (const std::string& command : kCommands) {
      const int code = shell("{} " + command + " >/dev/null 2>'" + path("err") + "'");
      EXPECT_TRUE(code == 2 || code == 3) << command.substr(0, 40) << ": " << code;
      expect_error_line("err");
    }
  }
}

// What cannot be written is known before the work: nothing is calibrated, evaluated or merged.
TEST_F(Process, StrangeOutputsAreRefusedBeforeTheWork) {
  const std::string name(300, 'n'), circle = path("circle");
  fs::create_symlink("circle", circle);
  std::ofstream(path("file")) << "x";
  const std::string out = path("out");
  ASSERT_EQ(shell("{} " + kMerge + out + kPlain + " >/dev/null"), 0);
  for (const std::string& strange : {path(name), circle + "/x", path("file/x"), path("file/x/y")}) {
    const std::string p = "'" + strange + "'";
    const std::string kCommands[] = {
        kMerge + p,
        kMerge + path("other") + " --report=" + p,
        "plan demo/recipe.yml -o " + p,
        "report " + out + " -o " + p,
        "report " + out + " --figures " + p,
        "calibrate demo/models/base --data demo/data/math_train.jsonl --format gsm8k -o " + p,
        "eval demo/models/base --task loss:demo/data/math_test.jsonl:gsm8k --output-path " + p};
    for (const std::string& command : kCommands) {
      const int code = shell("{} " + command + " >/dev/null 2>'" + path("err") + "'");
      EXPECT_TRUE(code == 2 || code == 3) << command.substr(0, 40) << ": " << code;
      expect_error_line("err");  // no line of progress before it
      EXPECT_FALSE(fs::exists(path("cache"))) << command;
      EXPECT_FALSE(fs::exists(path("other"))) << command;
    }
  }
}

}  // namespace
}  // namespace lewis
