#include "text/line_reader.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "base/hash.h"
#include "base/text_file.h"
#include "model_folder.h"
#include "text/dataset.h"

namespace lewis {
namespace {

std::vector<std::string> lines_of(const std::filesystem::path& file) {
  LineReader reader(file);
  std::vector<std::string> lines;
  while (const auto line = reader.next()) lines.emplace_back(*line);
  return lines;
}

TEST(LineReader, GivesTheLinesOfSplitLines) {
  TempDir dir;
  const std::string longer(3'000'000, 'x');
  for (const std::string& text :
       {std::string(), std::string("a"), std::string("a\n"), std::string("a\r\nb"),
        std::string("\n\na\n\n"), longer + "\n" + longer, longer + "\r\n\n" + "b\n",
        std::string((1 << 20) - 1, 'y') + "\nz", std::string(1 << 20, 'y') + "\nz"}) {
    write_file(dir.path / "f", text);
    const auto expected = split_lines(text);
    EXPECT_EQ(lines_of(dir.path / "f"), std::vector<std::string>(expected.begin(), expected.end()));
  }
  LineReader reader(dir.path / "f");
  reader.next();
  reader.next();
  EXPECT_EQ(reader.where(), (dir.path / "f").string() + ":2");
}

TEST(LineReader, HashesAWholeFile) {
  TempDir dir;
  for (const std::string& text : {std::string(), std::string("abc"), std::string(3'000'000, 'x')}) {
    write_file(dir.path / "f", text);
    EXPECT_EQ(data_file_hash(dir.path / "f"), sha256_hex(text));
  }
}

TEST(LineReader, RefusesALineWithoutEnd) {
  const auto read = [](const std::filesystem::path& file) {
    return error_of([&] {
      DataOptions options;
      options.file = file;
      read_data(options, nullptr);
    });
  };
  EXPECT_TRUE(contains(read("/dev/zero"), "/dev/zero:1: the line has more than 64 MiB"));
  TempDir dir;
  write_file(dir.path / "f", "{\"text\": \"a\"}\n");
  std::filesystem::resize_file(dir.path / "f", uintmax_t{10} << 30);  // takes no place
  EXPECT_TRUE(contains(read(dir.path / "f"), "f:2: the line has more than 64 MiB"));
  EXPECT_TRUE(contains(error_of([] { data_file_hash("/dev/zero"); }), "more than 1 GiB"));
  EXPECT_TRUE(contains(read(dir.path), "expected a file, found a folder"));
  EXPECT_TRUE(contains(read(dir.path / "g"), "cannot be opened"));
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  EXPECT_LT(usage.ru_maxrss, 2'000'000);  // KiB
}

}  // namespace
}  // namespace lewis
