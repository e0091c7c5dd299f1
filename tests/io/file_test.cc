#include "io/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>
#include <thread>

#include "base/error.h"
#include "raw_file.h"
#include "temp_dir.h"

namespace lewis {
namespace {

std::set<std::string> names_in(const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.insert(entry.path().filename().string());
  return names;
}

TEST(WriteFileDurably, ReplacesAFileAndLeavesNothingBeside) {
  const TempDir dir;
  write_file_durably(dir.path / "f", "one");
  write_file_durably(dir.path / "f", "two");
  EXPECT_EQ(read_raw(dir.path / "f"), "two");
  EXPECT_EQ(names_in(dir.path), (std::set<std::string>{"f"}));
}

TEST(WriteFileDurably, AnErrorLeavesWhatWasThere) {
  const TempDir dir;
  write_file_durably(dir.path / "f", "one");
  EXPECT_THROW(write_file_durably(dir.path / "f",
                                  [](const File& file) {
                                    file.append("half");
                                    throw failed_error("no more");
                                  }),
               Error);
  EXPECT_EQ(read_raw(dir.path / "f"), "one");
  EXPECT_EQ(names_in(dir.path), (std::set<std::string>{"f"}));
}

TEST(WriteFileDurably, TemporaryNamesAreTheirOwn) {
  const TempDir dir;
  const File first = File::create_beside(dir.path / "f");
  const File second = File::create_beside(dir.path / "f");
  EXPECT_NE(first.path(), second.path());
  EXPECT_EQ(first.path().parent_path(), dir.path);
  EXPECT_THROW(File::create_beside(dir.path / "none" / "f"), Error);
}

namespace fs = std::filesystem;

TEST(WriteFileDurably, LinksStayLinks) {
  const TempDir dir;
  fs::create_directory(dir.path / "real");
  write_raw(dir.path / "real" / "f", "one");
  fs::create_symlink("real/f", dir.path / "link");
  fs::create_symlink("link", dir.path / "chain");
  fs::create_symlink("real/new", dir.path / "to_nothing");
  write_file_durably(dir.path / "chain", "two");
  write_file_durably(dir.path / "to_nothing", "new");
  EXPECT_EQ(read_raw(dir.path / "real" / "f"), "two");
  EXPECT_EQ(read_raw(dir.path / "real" / "new"), "new");
  EXPECT_TRUE(fs::is_symlink(dir.path / "link"));
  EXPECT_TRUE(fs::is_symlink(dir.path / "to_nothing"));
  EXPECT_EQ(names_in(dir.path / "real"), (std::set<std::string>{"f", "new"}));
  fs::create_symlink("loop", dir.path / "loop");
  EXPECT_THROW(write_file_durably(dir.path / "loop", "x"), Error);
  EXPECT_THROW(write_file_durably(dir.path / "real", "x"), Error);
}

TEST(WriteFileDurably, AReplacedFileKeepsItsPermissions) {
  const TempDir dir;
  const fs::path file = dir.path / "f";
  write_raw(file, "one");
  fs::permissions(file, fs::perms::owner_read | fs::perms::owner_write);
  write_file_durably(file, "two");
  EXPECT_EQ(fs::status(file).permissions(), fs::perms::owner_read | fs::perms::owner_write);
}

TEST(WriteFileDurably, PipesAndDevicesAreWrittenInto) {
  const TempDir dir;
  const fs::path pipe = dir.path / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  std::string found;
  std::thread reader([&] { found = read_raw(pipe); });
  write_file_durably(pipe, std::string(300'000, 'x'));
  reader.join();
  EXPECT_EQ(found, std::string(300'000, 'x'));
  EXPECT_TRUE(fs::is_fifo(pipe));
  // Also where the content is not written from front to back.
  std::thread again([&] { found = read_raw(pipe); });
  write_file_durably(pipe, [](const File& file) {
    file.write_at(1, std::as_bytes(std::span("b", 1)));
    file.write_at(0, std::as_bytes(std::span("a", 1)));
  });
  again.join();
  EXPECT_EQ(found, "ab");
}

// The devices are the test's own: a program that replaced them would replace those of the machine.
TEST(WriteFileDurably, DevicesAreNotReplaced) {
  const TempDir dir;
  const fs::path full = dir.path / "full";
  if (::mknod(full.c_str(), S_IFCHR | 0600, makedev(1, 7)) != 0 || !fs::is_character_file(full))
    GTEST_SKIP() << "needs root to make a device";
  fs::create_symlink("full", dir.path / "link");
  for (const char* name : {"full", "link"}) {
    try {
      write_file_durably(dir.path / name, "x");
      FAIL() << name;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kResource) << e.what();
    }
  }
  EXPECT_TRUE(fs::is_character_file(full));
  EXPECT_TRUE(fs::is_symlink(dir.path / "link"));
}

// `> page.html` with /dev/stdout: what follows must land behind it, in the same file.
TEST(WriteFileDurably, OpenFilesOfTheProcessAreWrittenWhereTheyStand) {
  const TempDir dir;
  const fs::path file = dir.path / "out";
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT, 0600);
  ASSERT_EQ(::write(fd, "before ", 7), 7);
  write_file_durably(fmt::format("/dev/fd/{}", fd), "page ");
  write_file_durably(fmt::format("/proc/self/fd/{}", fd), "page ");
  ASSERT_EQ(::write(fd, "behind", 6), 6);
  ::close(fd);
  EXPECT_EQ(read_raw(file), "before page page behind");
}

TEST(WriteFileDurably, LeftOversOfTheDeadAreRemovedAndThoseOfTheLivingStay) {
  const TempDir dir;
  const fs::path file = dir.path / "f";
  write_raw(dir.path / ".f.tmp-999999999-0", "of a process that was killed");
  write_raw(dir.path / ".g.tmp-999999999-0", "of another file");
  fs::create_symlink("f", dir.path / ".f.tmp-1-1");
  const File living = File::create_beside(file);
  write_file_durably(file, "x");
  EXPECT_EQ(names_in(dir.path), (std::set<std::string>{"f", ".g.tmp-999999999-0", ".f.tmp-1-1",
                                                       living.path().filename().string()}));
}

TEST(WriteFileDurably, ManyProcessesWriteOneFile) {
  const TempDir dir;
  std::vector<pid_t> children;
  for (int child = 0; child < 6; ++child) {
    const pid_t pid = ::fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      try {
        for (int i = 0; i < 50; ++i)
          write_file_durably(dir.path / "f", std::string(1000, static_cast<char>('a' + child)));
        ::_exit(0);
      } catch (...) {
        ::_exit(1);
      }
    }
    children.push_back(pid);
  }
  for (const pid_t pid : children) {
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
  }
  const std::string content = read_raw(dir.path / "f");
  EXPECT_EQ(content, std::string(1000, content[0]));
  EXPECT_EQ(names_in(dir.path), (std::set<std::string>{"f"}));
}

TEST(WriteFileDurably, LongNames) {
  const TempDir dir;
  write_file_durably(dir.path / std::string(255, 'n'), "x");
  EXPECT_EQ(names_in(dir.path), (std::set<std::string>{std::string(255, 'n')}));
}

}  // namespace
}  // namespace lewis
