#include "text/child_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <iterator>
#include <new>
#include <string>
#include <thread>

#include "model_folder.h"
#include "text/chat_template.h"

namespace lewis {
namespace {

using namespace std::chrono_literals;

constexpr Allowance kEnough{100ms, 100'000'000};

ChildProcess child(Answer answer) {
  return ChildProcess({"it", kEnough, [answer] { return answer; }});
}

TEST(ChildProcess, AnswersAndThrowsWhatItsWorkThrows) {
  const ChildProcess echo = child([](std::string_view request) -> std::string {
    if (request == "no") throw input_error("not {}", request);
    return "<" + std::string(request) + ">";
  });
  EXPECT_EQ(echo.ask("a", {}), "<a>");
  EXPECT_EQ(error_of([&] { echo.ask("no", {}); }), "not no");
  const std::string big(3'000'000, 'x');
  EXPECT_EQ(echo.ask(big, kEnough), "<" + big + ">");
  EXPECT_EQ(error_of([] {
              ChildProcess({"it", kEnough, []() -> Answer { throw input_error("b"); }});
            }),
            "b");
}

// As where a thread that is not in the child held a lock when this process was forked.
TEST(ChildProcess, AChildThatWaitsForEverAtItsBeginningIsStartedAnew) {
  constexpr int kShared = MAP_SHARED | MAP_ANONYMOUS;
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, kShared, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  auto* starts = new (page) std::atomic<int>(0);
  const ChildProcess echo({"it", kEnough, [starts]() -> Answer {
                             if (starts->fetch_add(1) == 0) pause();
                             return [](std::string_view request) { return std::string(request); };
                           }});
  EXPECT_EQ(*starts, 2);
  EXPECT_EQ(echo.ask("a", {}), "a");
  munmap(page, 4096);
}

TEST(ChildProcess, EveryEndIsOneLineAndLasts) {
  const auto end_of = [](Answer answer, ExitCode code = ExitCode::kInput) {
    const ChildProcess process = child(std::move(answer));
    const std::string first = error_of([&] { process.ask("", {}); }, code);
    EXPECT_TRUE(process.has_ended());
    EXPECT_EQ(error_of([&] { process.ask("", {}); }, code), first);
    return first;
  };
  EXPECT_TRUE(contains(end_of([](auto) -> std::string {
                         raise(SIGSEGV);
                         return "";
                       }),
                       "it: it is nested too deeply"));
  EXPECT_TRUE(contains(end_of([](auto) -> std::string {
                         raise(SIGPROF);
                         return "";
                       }),
                       "it: it needs more than 0.5 s of processor time"));
  EXPECT_TRUE(contains(end_of(
                           [](auto) -> std::string {
                             raise(SIGKILL);
                             return "";
                           },
                           ExitCode::kResource),
                       "it: its process got too little memory"));
  EXPECT_TRUE(contains(end_of([](auto) -> std::string {
                         raise(SIGABRT);
                         return "";
                       }),
                       "it: its process ended unexpectedly (signal 6)"));
}

TEST(ChildProcess, HasNoFilesAndNoTerminalOfItsParent) {
  const int null = open("/dev/null", O_RDONLY);
  const int file = fcntl(null, F_DUPFD, 50);  // without O_CLOEXEC, as a careless program has it
  close(null);
  const ChildProcess process = child([file](std::string_view) {
    std::string open_files;
    for (int i = 0; i < 100; ++i) {
      if (fcntl(i, F_GETFD) >= 0) open_files += std::to_string(i) + " ";
    }
    return open_files + (getsid(0) == getpid() ? "own" : "shared") +
           (fcntl(file, F_GETFD) < 0 ? "" : " leaked");
  });
  EXPECT_EQ(process.ask("", {}), "0 1 2 3 own");
  close(file);
}

// Where there are few descriptors, a process needs none beside those of its socket.
TEST(ChildProcess, StartsWhereTheLastDescriptorsAreTaken) {
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const int next = dup(STDIN_FILENO);
  ASSERT_GE(next, 0);
  close(next);
  rlimit few = before;
  few.rlim_cur = static_cast<rlim_t>(next) + 2;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  std::string answer;
  try {
    answer = child([](auto) { return std::string("yes"); }).ask("", {});
  } catch (const Error& e) {
    answer = e.what();
  }
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(answer, "yes");
}

TEST(ChildProcess, LeavesNoZombie) {
  {
    const ChildProcess process = child([](auto) { return std::string(); });
  }
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

// A program that does not wait for its children learns less, but is told in one line.
TEST(ChildProcess, WorksWhereTheSystemWaitsForChildren) {
  const auto before = signal(SIGCHLD, SIG_IGN);
  {
    const ChildProcess process = child([](std::string_view request) -> std::string {
      if (request == "end") raise(SIGSEGV);
      return "a";
    });
    EXPECT_EQ(process.ask("", {}), "a");
    EXPECT_TRUE(contains(error_of([&] { process.ask("end", {}); }), "too much time, memory or"));
  }
  signal(SIGCHLD, before);
}

// True once `pid` has ended; its parent is another process, which may wait for it late.
bool ends(pid_t pid) {
  for (int i = 0; i < 200; ++i) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    const std::string stat{std::istreambuf_iterator<char>(file), {}};
    const size_t name_end = stat.rfind(") ");
    if (name_end == std::string::npos || stat.compare(name_end, 3, ") Z") == 0) return true;
    std::this_thread::sleep_for(50ms);
  }
  return false;
}

// Ends a process whose child is idle or busy, and looks for the child.
void expect_orphan_ends(bool busy) {
  int ends_of_pipe[2];
  ASSERT_EQ(pipe(ends_of_pipe), 0);
  const pid_t parent = fork();
  if (parent == 0) {
    const ChildProcess process = child([](std::string_view request) {
      volatile bool forever = request == "busy";
      while (forever) continue;
      return std::to_string(getpid());
    });
    const std::string pid = process.ask("", {});
    if (write(ends_of_pipe[1], pid.data(), pid.size()) < 0) _exit(1);
    if (busy) process.ask("busy", {});
    pause();
  }
  close(ends_of_pipe[1]);
  char text[20] = {};
  ASSERT_GT(read(ends_of_pipe[0], text, sizeof text - 1), 0);
  close(ends_of_pipe[0]);
  std::this_thread::sleep_for(50ms);
  kill(parent, SIGKILL);
  waitpid(parent, nullptr, 0);
  EXPECT_TRUE(ends(std::stoi(text))) << text;
}

TEST(ChildProcess, EndsWhenItsParentIsKilled) {
  expect_orphan_ends(false);
  expect_orphan_ends(true);
}

TEST(ChildProcess, ManyThreadsMayAsk) {
  const ChildProcess echo = child([](std::string_view request) { return std::string(request); });
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&echo, t] {
      for (int i = 0; i < 200; ++i) {
        const std::string request = std::to_string(t * 1000 + i);
        EXPECT_EQ(echo.ask(request, kEnough), request);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(ChildProcess, StartsWithStandardFilesClosed) {
  const pid_t process = fork();
  if (process == 0) {
    for (int i = 0; i < 3; ++i) close(i);
    const Json messages = Json::parse(R"([{"role": "user", "content": "a"}])");
    const bool works = ChatTemplate("{{ messages[0].content }}", "t").render(messages) == "a";
    _exit(works && fcntl(0, F_GETFD) < 0 && fcntl(1, F_GETFD) < 0 ? 0 : 1);
  }
  int status = -1;
  waitpid(process, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace lewis
