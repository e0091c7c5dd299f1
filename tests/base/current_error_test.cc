#include "base/current_error.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/start_thread.h"
#include "base/threads.h"
#include "programs.h"

namespace lewis {
namespace {

template <typename F>
Error error_of(F&& f) {
  try {
    f();
  } catch (...) {
    return current_error();
  }
  return Error(ExitCode::kDone, "nothing was thrown");
}

TEST(CurrentError, KeepsErrors) {
  const Error e = error_of([] { throw input_error("file: wrong"); });
  EXPECT_EQ(e.code(), ExitCode::kInput);
  EXPECT_STREQ(e.what(), "file: wrong");
}

TEST(CurrentError, LackOfMemoryIsOfResources) {
  EXPECT_EQ(error_of([] { throw std::bad_alloc(); }).code(), ExitCode::kResource);
  EXPECT_EQ(error_of([] { std::vector<int>().reserve(~size_t{0}); }).code(), ExitCode::kResource);
}

TEST(CurrentError, ErrorsOfTheSystem) {
  const auto of = [](int number) {
    return error_of([&] {
      throw std::filesystem::filesystem_error("status", "a/b",
                                              std::error_code(number, std::generic_category()));
    });
  };
  for (const int number : {ELOOP, ENAMETOOLONG, EACCES, ENOTDIR, ENOENT, EROFS, EINVAL})
    EXPECT_EQ(of(number).code(), ExitCode::kInput) << number;
  for (const int number : {ENOSPC, EDQUOT, EFBIG, EMFILE, ENFILE, ENOMEM, EAGAIN, EPIPE})
    EXPECT_EQ(of(number).code(), ExitCode::kResource) << number;
  errno = EMFILE;
  const Error few = file_error("a/b", "cannot be opened");
  EXPECT_EQ(few.code(), ExitCode::kResource);
  EXPECT_STREQ(few.what(), "a/b: cannot be opened: Too many open files");
  EXPECT_STREQ(of(ELOOP).what(), "a/b: Too many levels of symbolic links");
}

TEST(StartThreads, WhatRunsIsEndedWhenOneIsMissing) {
  if (sanitized()) GTEST_SKIP() << "the sanitizer ends a process that asks for so much memory";
  std::vector<std::thread> threads;
  std::atomic<bool> stopped = false;
  std::atomic<int> ended = 0;
  const auto body = [&](size_t) {
    while (!stopped) std::this_thread::yield();
    ++ended;
  };
  start_threads(threads, 0, 3, body, [&] { stopped = true; });
  EXPECT_EQ(threads.size(), 3u);
  stopped = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(ended, 3);
  threads.clear();
  EXPECT_EQ(error_of([&] { start_threads(threads, 0, ~size_t{0} / 1024, body, [] {}); }).code(),
            ExitCode::kResource);
}

TEST(StartThreads, PoolsAreOfABoundedSize) {
  EXPECT_EQ(error_of([] { Threads(100'000); }).code(), ExitCode::kUsage);
  EXPECT_EQ(error_of([] { Threads(~size_t{0}); }).code(), ExitCode::kUsage);
}

}  // namespace
}  // namespace lewis
