#include "io/file.h"

#include <gtest/gtest.h>

#include <set>

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

}  // namespace
}  // namespace lewis
