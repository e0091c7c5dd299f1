// Programs that try to get out, each with its verdict. What a layer stops is tested where the
// machine gives the layer: containers often give no namespaces.
#include "eval/sandbox/sandbox.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "programs.h"
#include "scoped_env.h"
#include "temp_dir.h"

namespace lewis {
namespace {

using namespace std::chrono_literals;

SandboxLimits small_limits() {
  SandboxLimits limits;
  limits.wall = 20s;  // tests share their processors
  limits.cpu_seconds = 1;
  return limits;
}

class SandboxTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!sandbox_.cannot_run().empty()) GTEST_SKIP() << sandbox_.cannot_run();
  }

  // The verdict; `reason` must be part of its reason.
  void expect(Verdict verdict, const std::string& reason, const std::string& program,
              const std::string& tests = "assert f(3) == 9") {
    const ProgramResult result = sandbox_.run(program, tests);
    EXPECT_EQ(verdict_name(result.verdict), verdict_name(verdict)) << program << "\n"
                                                                   << result.reason << "\n"
                                                                   << result.output;
    EXPECT_NE(result.reason.find(reason), std::string::npos) << program << "\n" << result.reason;
  }

  bool has(SandboxLayer layer) const { return sandbox_.has(layer); }

  Sandbox sandbox_{small_limits()};
};

const std::string kRight = "def f(x):\n    return x * x\n";

TEST_F(SandboxTest, RightAndWrongPrograms) {
  expect(Verdict::kPassed, "", kRight);
  expect(Verdict::kFailed, "AssertionError", "def f(x):\n    return x\n");
  expect(Verdict::kFailed, "SyntaxError", "def f(x:\n");
  expect(Verdict::kFailed, "NameError", "");
  expect(Verdict::kFailed, "RecursionError", "def f(x):\n    return f(x)\n");
  expect(Verdict::kFailed, "EOFError", "x = input()\n" + kRight);
  expect(Verdict::kPassed, "", kRight + "s = 'é' * " + std::to_string(100'000) + "\nprint(s)\n");
  expect(Verdict::kPassed, "", "# " + std::string(400'000, 'x') + "\n" + kRight);
}

TEST_F(SandboxTest, WhatSolutionsImport) {
  expect(
      Verdict::kPassed, "",
      "import asyncio, bisect, collections, dataclasses, datetime, decimal, fractions, functools\n"
      "import heapq, hashlib, itertools, json, math, operator, random, re, statistics, string\n"
      "import sys, tempfile, typing, unittest, uuid\n"
      "async def g():\n    await asyncio.sleep(0)\n    return random.random()\n"
      "asyncio.run(g())\n"
      "open('file', 'w').write('x')\nassert open('file').read() == 'x'\n" +
          kRight);
}

TEST_F(SandboxTest, TimeMemoryAndOutput) {
  expect(Verdict::kTimeout, "processor", "while True: pass");
  expect(Verdict::kTimeout, "processor",
         "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass");
  expect(Verdict::kFailed, "MemoryError", "x = bytearray(8 << 30)");
  expect(Verdict::kFailed, "File too large", "open('big', 'wb').write(bytes(2 << 20))");
  expect(Verdict::kFailed, "too much output", "while True: print('x' * 100000)");
  SandboxLimits limits = small_limits();
  limits.wall = 300ms;
  const Sandbox sandbox(limits);
  if (!sandbox.cannot_run().empty()) GTEST_SKIP() << "300 ms are too few for this machine's Python";
  const ProgramResult asleep = sandbox.run("import time\ntime.sleep(1000)", "");
  EXPECT_EQ(asleep.verdict, Verdict::kTimeout);
  EXPECT_EQ(asleep.reason, "0.3 s");
}

TEST_F(SandboxTest, SystemCallsThatAreRefused) {
  if (!has(SandboxLayer::kFilter)) GTEST_SKIP() << sandbox_.missing_layers();
  const char* const kPrograms[] = {"import os\nwhile True: os.fork()",
                                   "import subprocess\nsubprocess.run(['true'])",
                                   "import os\nos.system('true')",
                                   "import socket\nsocket.create_connection(('127.0.0.1', 1))",
                                   "import socket\nsocket.socket(socket.AF_UNIX)",
                                   "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
                                   "import os, signal\nos.kill(-1, signal.SIGKILL)",
                                   "import os\nos.setsid()",
                                   "import os\nos.setuid(0)",
                                   "import os\nos.chroot('.')",
                                   "import resource\nresource.prlimit(1, resource.RLIMIT_CPU)",
                                   "import ctypes\nctypes.CDLL(None).ptrace(0, 0, 0, 0)",
                                   "import ctypes\nctypes.CDLL(None).mount(b'/', b'/', b'', 0, 0)",
                                   "import ctypes\nctypes.CDLL(None).unshare(0x10000000)"};
  for (const std::string program : kPrograms) expect(Verdict::kRefused, "not allowed", program);
  expect(Verdict::kFailed, "can't start new thread",
         "import threading\nthreading.Thread(target=print).start()");
}

// A descriptor can be told to send signals: the kernel then sends them for the program.
TEST_F(SandboxTest, DescriptorsSendNoSignals) {
  if (!has(SandboxLayer::kFilter)) GTEST_SKIP() << sandbox_.missing_layers();
  const std::string pair =
      "import fcntl, os, socket, struct\na, b = socket.socketpair()\nr, w = os.pipe()\n"
      "me = struct.pack('i', os.getpid())\n";
  const char* const kPrograms[] = {
      "fcntl.fcntl(a, fcntl.F_SETOWN, os.getppid())",
      "fcntl.fcntl(r, 8, os.getpid())",
      "fcntl.fcntl(a, 15, struct.pack('ii', 1, os.getppid()))",  // F_SETOWN_EX
      "fcntl.fcntl(a, 10, 9)",                                   // F_SETSIG
      "fcntl.fcntl(a, fcntl.F_SETFL, os.O_NONBLOCK | 0x2000)",   // O_ASYNC
      "fcntl.fcntl(3, fcntl.F_SETFL, 0x2000)",
      "fcntl.fcntl(os.open('.', 0), fcntl.F_NOTIFY, 2)",
      "fcntl.fcntl(os.open('f', os.O_CREAT), fcntl.F_SETLEASE, 0)",
      "fcntl.ioctl(a, 0x5452, b'\\1\\0\\0\\0')",  // FIOASYNC
      "fcntl.ioctl(a, 0x8901, me)",               // FIOSETOWN
      "fcntl.ioctl(a, 0x8902, me)",               // SIOCSPGRP
      "fcntl.ioctl(0, 0x5412, b'x')",             // TIOCSTI
  };
  for (const std::string program : kPrograms) {
    expect(Verdict::kRefused, "not allowed", pair + program);
    expect(Verdict::kRefused, "not allowed",
           pair + "try:\n  " + program + "\nexcept BaseException: pass\n" + kRight);
  }
  expect(Verdict::kPassed, "",
         pair +
             "os.set_blocking(r, False)\nassert not os.get_blocking(r)\na.setblocking(False)\n"
             "file = open('f', 'w')\nfcntl.lockf(file, fcntl.LOCK_EX)\n"
             "assert fcntl.fcntl(file, fcntl.F_DUPFD, 20) >= 20\nos.set_inheritable(w, True)\n" +
             kRight);
}

// A process of the same user, outside.
class Victim {
 public:
  Victim() : pid_(fork()) {
    if (pid_ == 0) {
      while (true) pause();
    }
  }
  ~Victim() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  std::string pid() const { return std::to_string(pid_); }
  int priority() const { return getpriority(PRIO_PROCESS, static_cast<id_t>(pid_)); }
  bool is_untouched() const {
    cpu_set_t set;
    return waitpid(pid_, nullptr, WNOHANG | WUNTRACED) == 0 && priority() == priority_ &&
           sched_getaffinity(pid_, sizeof set, &set) == 0 && CPU_EQUAL(&set, &cores_) &&
           sched_getscheduler(pid_) == SCHED_OTHER;
  }

 private:
  static cpu_set_t own_cores() {
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    return set;
  }
  pid_t pid_;
  int priority_ = getpriority(PRIO_PROCESS, 0);
  cpu_set_t cores_ = own_cores();
};

TEST_F(SandboxTest, OtherProcessesOfTheUserAreOutOfReach) {
  if (!has(SandboxLayer::kFilter)) GTEST_SKIP() << sandbox_.missing_layers();
  for (const SandboxLayer layer : {SandboxLayer::kUser, SandboxLayer::kMounts, SandboxLayer::kPids,
                                   SandboxLayer::kNetwork, SandboxLayer::kIpc}) {
    sandbox_.leave_out(layer, "for this test");
  }
  const Victim victim;
  const std::string begin =
      "import ctypes, fcntl, os, signal, socket, struct\npid = " + victim.pid() +
      "\ncall = ctypes.CDLL(None, use_errno=True).syscall\n";
  const char* const kPrograms[] = {
      "os.kill(pid, 9)",
      "os.killpg(pid, 9)",
      "os.kill(-1, 9)",
      "call(200, pid, 9)",       // tkill
      "call(234, pid, pid, 9)",  // tgkill
      "call(234, os.getpid(), pid, 9)",
      "call(129, pid, 9, bytes(128))",       // rt_sigqueueinfo
      "call(297, pid, pid, 9, bytes(128))",  // rt_tgsigqueueinfo
      "call(424, call(434, pid, 0), 9, 0, 0)",
      "call(101, 16, pid, 0, 0)",                                               // PTRACE_ATTACH
      "call(311, pid, 0, 0, 0, 0, 0)",                                          // process_vm_writev
      "call(222, 1, struct.pack('QiiI', 0, 9, 4, pid) + bytes(64), bytes(8))",  // timer_create
      "os.setpriority(os.PRIO_PROCESS, pid, 19)",
      "os.setpriority(os.PRIO_USER, os.getuid(), 19)",
      "call(251, 1, pid, 3 << 13)",  // ioprio_set
      "os.sched_setaffinity(pid, {0})",
      "os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))",
      "call(302, pid, 0, struct.pack('QQ', 0, 0), 0)",  // prlimit64
      "a, b = socket.socketpair()\nfcntl.fcntl(a, 8, pid)\nfcntl.fcntl(a, 10, 9)\n"
      "fcntl.fcntl(a, 4, 0x2000)\nb.send(b'x')\n",
      "r, w = os.pipe()\nfcntl.ioctl(r, 0x8901, struct.pack('i', pid))\n"
      "fcntl.ioctl(r, 0x5452, struct.pack('i', 1))\nos.write(w, b'x')",
      "call(57)",  // fork
  };
  for (const std::string program : kPrograms) {
    sandbox_.run(begin + program, "");  // refused, or an error that the program may catch
    EXPECT_TRUE(victim.is_untouched()) << program;
  }
}

// Landlock, where the kernel has it, stands in for the mount namespace.
TEST_F(SandboxTest, FilesOutsideAreOutOfReachWithoutMounts) {
  if (syscall(SYS_landlock_create_ruleset, nullptr, 0, 1) < 3) GTEST_SKIP() << "no Landlock";
  for (const SandboxLayer layer : {SandboxLayer::kUser, SandboxLayer::kMounts, SandboxLayer::kPids,
                                   SandboxLayer::kNetwork, SandboxLayer::kIpc}) {
    sandbox_.leave_out(layer, "for this test");
  }
  const TempDir outside;
  const std::string file = (outside.path / "file").string();
  std::ofstream(file) << "secret";
  const Victim victim;
  const std::string process = "/proc/" + victim.pid();
  const char* const kPaths[] = {file.c_str(), "/etc/passwd", "/proc/self/environ",
                                "/proc/self/../1/environ"};
  for (const std::string path : kPaths)
    expect(Verdict::kFailed, "PermissionError", "open('" + path + "').read()");
  expect(Verdict::kFailed, "PermissionError", "open('" + file + "', 'w')");
  expect(Verdict::kFailed, "PermissionError", "open('" + file + "2', 'w')");
  expect(Verdict::kFailed, "PermissionError", "import os\nos.truncate('" + file + "', 0)");
  expect(Verdict::kFailed, "PermissionError", "import os\nos.remove('" + file + "')");
  expect(Verdict::kFailed, "", "import os\nos.link('" + file + "', 'link')");
  expect(Verdict::kFailed, "PermissionError",
         "import os\nos.symlink('" + file + "', 'link')\nopen('link').read()");
  expect(Verdict::kFailed, "PermissionError", "open('" + process + "/mem', 'r+b')");
  expect(Verdict::kFailed, "PermissionError",
         "import os\nopen(f'/proc/{os.getppid()}/fd/4', 'wb')");
  EXPECT_EQ(std::filesystem::file_size(file), 6u);
  EXPECT_TRUE(victim.is_untouched());
  expect(Verdict::kPassed, "",
         "import json, os, tempfile\nos.mkdir('d')\nopen('d/f', 'w').write('x')\n"
         "os.rename('d/f', 'd/g')\nassert open('d/g').read() == 'x'\n" +
             kRight);
}

// The process that waits for the program is not protected where filter and namespaces are missing.
TEST_F(SandboxTest, AProgramThatEndsItsKeeperHasFailed) {
  for (const SandboxLayer layer :
       {SandboxLayer::kUser, SandboxLayer::kMounts, SandboxLayer::kPids, SandboxLayer::kNetwork,
        SandboxLayer::kIpc, SandboxLayer::kFilter, SandboxLayer::kNoNewPrivileges}) {
    sandbox_.leave_out(layer, "for this test");
  }
  std::vector<std::string> signals = {"9", "15"};
  if (!sanitized()) signals.emplace_back("11");  // which the sanitizer turns into an exit
  for (const std::string& signal : signals) {
    expect(Verdict::kFailed, "ended the process that watches it",
           std::string("import os, time\nos.kill(os.getppid(), ") + signal + ")\ntime.sleep(9)");
  }
  expect(Verdict::kPassed, "", kRight);
}

// Also where there is no pid namespace that would end with it.
TEST_F(SandboxTest, TheEndOfThisProcessEndsThePrograms) {
  for (const SandboxLayer layer : {SandboxLayer::kUser, SandboxLayer::kMounts, SandboxLayer::kPids,
                                   SandboxLayer::kNetwork, SandboxLayer::kIpc}) {
    sandbox_.leave_out(layer, "for this test");
  }
  const TempDir folder;
  const ScopedEnv temporary("TMPDIR", folder.path.string());
  const pid_t child = fork();
  if (child == 0) {
    sandbox_.run(
        "import os, time\nopen('new', 'w').write(str(os.getpid()))\n"
        "os.rename('new', 'pid')\ntime.sleep(1000)",
        "");
    _exit(0);
  }
  pid_t program = 0;
  for (int i = 0; i < 1000 && program == 0; ++i) {
    std::this_thread::sleep_for(20ms);
    for (const auto& entry : std::filesystem::directory_iterator(folder.path))
      std::ifstream(entry.path() / "work/pid") >> program;
  }
  ASSERT_GT(program, 0);
  EXPECT_EQ(kill(program, 0), 0);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  for (int i = 0; i < 250 && kill(program, 0) == 0; ++i) std::this_thread::sleep_for(20ms);
  EXPECT_NE(kill(program, 0), 0) << "the program outlives lewis";
  kill(program, SIGKILL);
  // The killed process could not remove the working folder: the next does.
  EXPECT_FALSE(std::filesystem::is_empty(folder.path));
  const Sandbox next;
  EXPECT_TRUE(std::filesystem::is_empty(folder.path));
}

TEST_F(SandboxTest, TheHostHasAnotherName) {
  if (!has(SandboxLayer::kIpc)) GTEST_SKIP() << sandbox_.missing_layers();
  expect(Verdict::kPassed, "",
         "import os, socket\nassert os.uname().nodename == socket.gethostname() == 'sandbox'\n" +
             kRight);
}

// Files of the machine, as the program tries to reach them: by name, by a link, by a way up.
TEST_F(SandboxTest, FilesOutsideAreNotThere) {
  if (!has(SandboxLayer::kMounts)) GTEST_SKIP() << sandbox_.missing_layers();
  const TempDir outside;
  const std::string file = outside.path / "file";
  std::ofstream(file) << "secret";
  const std::string open = "open('" + file + "'";
  expect(Verdict::kFailed, "FileNotFoundError", open + ").read()");
  expect(Verdict::kFailed, "FileNotFoundError", open + ", 'w')");
  expect(Verdict::kFailed, "FileNotFoundError", "open('/etc/passwd')");
  expect(Verdict::kFailed, "FileNotFoundError", "import os\nos.listdir('/home')");
  expect(Verdict::kFailed, "FileNotFoundError", "open('/proc/self/environ')");
  expect(Verdict::kFailed, "FileNotFoundError",
         "import os\nos.symlink('" + file + "', 'link')\nopen('link').read()");
  expect(Verdict::kFailed, "FileNotFoundError",
         "import os\nos.symlink('../../../../../etc', 'link')\nopen('link/passwd').read()");
  expect(Verdict::kFailed, "Read-only", "open('/usr/lewis-was-here', 'w')");
  expect(Verdict::kFailed, "Read-only", "open('/lewis-was-here', 'w')");
  expect(Verdict::kFailed, "", "import os\nos.link('" + file + "', 'link')");
  expect(Verdict::kFailed, "No space left",
         "for i in range(100): open(str(i), 'wb').write(bytes(1 << 20))");
  expect(Verdict::kPassed, "",
         "import os\nassert os.listdir('.') == []\nos.environ['HOME']\n" + kRight);
  std::string text;
  std::ifstream(file) >> text;
  EXPECT_EQ(text, "secret");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(outside.path), {}), 1);
}

TEST_F(SandboxTest, TheEnvironmentIsEmpty) {
  const ScopedEnv secret("LEWIS_TEST_SECRET", "secret");
  expect(Verdict::kPassed, "",
         "import os\nassert 'LEWIS_TEST_SECRET' not in os.environ\n" + kRight);
}

TEST_F(SandboxTest, NoFilesOfThisProcessAreInherited) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);  // without close-on-exec
  expect(Verdict::kPassed, "",
         "import os\nfound = []\n"
         "for i in range(4, 64):\n"
         "    try:\n        os.fstat(i)\n        found.append(i)\n"
         "    except OSError: pass\n"
         "assert found == [], found\n" +
             kRight);
  close(ends[0]);
  close(ends[1]);
}

// Asserts that the program would like to change, and ends that look like success.
TEST_F(SandboxTest, TestsDecide) {
  const std::string wrong = "def f(x):\n    return 1\n";
  const char* const kTricks[] = {
      "import sys\nsys.exit(0)",
      "import os\nos._exit(0)",
      "import os, sys\nprint('passed', flush=True)\nos._exit(0)",
      "import os\nos.write(3, b't' * 100)\nos._exit(0)",
      "import os\nos.write(3, b'pt' + b'0' * 32)\nos._exit(0)",
      "import builtins\nbuiltins.AssertionError = None\nbuiltins.exec = lambda *a: None",
      "import builtins\nbuiltins.compile = lambda *a: 'pass'",
      "import builtins\nfor n in ('abs', 'set', 'sorted'): setattr(builtins, n, lambda *a: 0)",
      "__builtins__ = {}",
      "import os\nos.read = lambda *a: b'0\\n'",
      "import atexit, os\natexit.register(os._exit, 0)",
      "import sys\nsys.excepthook = lambda *a: None",
      "import sys\nsys.settrace(lambda *a: None)",
      "import os\nos.close(3)",
      "raise SystemExit"};
  for (const std::string trick : kTricks) {
    expect(Verdict::kFailed, "", trick + "\n" + wrong, "assert abs(f(3)) == 9 and set('ab') != 0");
  }
  expect(Verdict::kFailed, "ended in its tests", "import os\ndef f(x): os._exit(0)");
  expect(Verdict::kFailed, "", "import sys\ndef f(x): sys.exit(0)");
}

// Where layers are missing, the others still hold.
TEST_F(SandboxTest, WithoutNamespaces) {
  for (const SandboxLayer layer : {SandboxLayer::kUser, SandboxLayer::kMounts, SandboxLayer::kPids,
                                   SandboxLayer::kNetwork, SandboxLayer::kIpc}) {
    sandbox_.leave_out(layer, "for this test");
  }
  EXPECT_NE(sandbox_.missing_layers().find("mount namespace (for this test)"), std::string::npos);
  // The working folder is one of the machine's, removed with all that is in it, not what links
  // show.
  const TempDir folder, outside;
  std::ofstream(outside.path / "file") << "kept";
  const ScopedEnv temporary("TMPDIR", folder.path.string());
  expect(Verdict::kPassed, "",
         "import os\nos.mkdir('d')\nopen('d/file', 'w').write('x')\nos.symlink('" +
             outside.path.string() + "', 'd/link')\n" + kRight);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path));
  EXPECT_TRUE(std::filesystem::exists(outside.path / "file"));
  expect(Verdict::kFailed, "MemoryError", "x = bytearray(8 << 30)");
  expect(Verdict::kTimeout, "processor", "while True: pass");
  if (!has(SandboxLayer::kFilter)) return;
  expect(Verdict::kRefused, "not allowed", "import os\nos.fork()");
  expect(Verdict::kRefused, "not allowed", "import os\nos.kill(os.getppid(), 9)");
  expect(Verdict::kRefused, "not allowed", "import socket\nsocket.socket()");
}

TEST_F(SandboxTest, ManyAtATime) {
  std::vector<std::thread> threads;
  std::vector<Verdict> verdicts(4, Verdict::kRefused);
  for (size_t t = 0; t < verdicts.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5; ++i) {
        const std::string value = std::to_string(t);
        verdicts[t] = sandbox_.run("x = " + value, "assert x == " + value).verdict;
        if (verdicts[t] != Verdict::kPassed) return;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Verdict verdict : verdicts) EXPECT_EQ(verdict, Verdict::kPassed);
}

TEST(SandboxWithoutPython, SaysSo) {
  const Sandbox sandbox({}, PythonInstall{});
  EXPECT_EQ(sandbox.cannot_run(), "there is no python3");
  EXPECT_ANY_THROW(sandbox.run("", ""));
}

}  // namespace
}  // namespace lewis
