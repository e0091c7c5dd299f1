#include "base/model_files.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <fstream>

#include "base/error.h"
#include "base/text_file.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

void write(const fs::path& file, std::string_view text) {
  fs::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << text;
}

class ModelFilesTest : public testing::Test {
 protected:
  ModelFilesTest() { write(folder_ / "config.json", "{}"); }

  void expect_refused(const fs::path& name, std::string_view said) {
    try {
      read_model_file(folder_, name);
      ADD_FAILURE() << name << " was read; expected: " << said;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kInput);
      EXPECT_TRUE(std::string(e.what()).starts_with((folder_ / name).string() + ": ")) << e.what();
      EXPECT_NE(std::string(e.what()).find(said), std::string::npos) << e.what();
    }
  }

  TempDir dir_;
  fs::path folder_ = dir_.path / "model";
};

TEST_F(ModelFilesTest, OnlyRegularFilesAndWithoutWaiting) {
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  expect_refused("pipe", "a named pipe");
  fs::create_directory(folder_ / "folder");
  expect_refused("folder", "a folder");
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = (folder_ / "socket").string();
  ASSERT_LT(name.size(), sizeof address.sun_path);
  name.copy(address.sun_path, name.size());
  ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  expect_refused("socket", "cannot be opened");
  ::close(fd);
  expect_refused("none", "No such file");
}

TEST_F(ModelFilesTest, LinksDoNotLeadOut) {
  write(dir_.path / "secret", "a private key");
  write(dir_.path / "model2" / "config.json", "{}");
  fs::create_symlink("../secret", folder_ / "relative");
  fs::create_symlink(dir_.path / "secret", folder_ / "absolute");
  fs::create_symlink("/dev/zero", folder_ / "device");
  fs::create_symlink("relative", folder_ / "chain");
  fs::create_directory_symlink("..", folder_ / "up");
  fs::create_symlink("../model2/config.json", folder_ / "neighbour");  // "model" begins its name
  for (const char* name : {"relative", "absolute", "device", "chain", "up/secret", "neighbour"})
    expect_refused(name, "leads out of the folder");
  fs::create_symlink("loop", folder_ / "loop");
  expect_refused("loop", "Too many levels");
  fs::create_symlink("gone", folder_ / "dangling");
  expect_refused("dangling", "No such file");
  EXPECT_THROW(ModelFiles(folder_).read("dangling"), Error);
}

TEST_F(ModelFilesTest, LinksWithinAndLinksToTheFolderAreFollowed) {
  fs::create_symlink("config.json", folder_ / "same.json");
  fs::create_directory_symlink(folder_, dir_.path / "link");
  EXPECT_EQ(read_model_file(folder_, "same.json"), "{}");
  EXPECT_EQ(read_model_file(dir_.path / "link", "same.json"), "{}");
  EXPECT_EQ(ModelFiles(dir_.path / "link").read("none"), std::nullopt);
}

// models--ID/snapshots/REVISION/NAME -> ../../blobs/HASH, with folders below a snapshot, too.
TEST_F(ModelFilesTest, BlobsOfTheSameCacheEntryAreFollowed) {
  const fs::path entry = dir_.path / "hub/models--a--b", other = dir_.path / "hub/models--a--c";
  write(entry / "blobs/1234", "blob");
  write(other / "blobs/1234", "of another model");
  folder_ = entry / "snapshots/main";
  fs::create_directories(folder_ / "1_Pooling");
  fs::create_symlink("../../blobs/1234", folder_ / "config.json");
  fs::create_symlink("../../../blobs/1234", folder_ / "1_Pooling/config.json");
  fs::create_symlink(other / "blobs/1234", folder_ / "foreign.json");
  fs::create_symlink("../../refs", folder_ / "refs.json");
  EXPECT_EQ(read_model_file(folder_, "config.json"), "blob");
  EXPECT_EQ(read_model_file(folder_, "1_Pooling/config.json"), "blob");
  expect_refused("foreign.json", "leads out of the folder");
  fs::create_directory_symlink(dir_.path / "hub", dir_.path / "cache");
  EXPECT_EQ(read_model_file(dir_.path / "cache/models--a--b/snapshots/main", "config.json"),
            "blob");
  // Other folders of that shape are no snapshot of a model.
  folder_ = dir_.path / "x/snapshots/main";
  write(dir_.path / "x/blobs/1234", "blob");
  fs::create_directories(folder_);
  fs::create_symlink("../../blobs/1234", folder_ / "config.json");
  expect_refused("config.json", "leads out of the folder");
}

TEST_F(ModelFilesTest, SizesAreBounded) {
  write(folder_ / "huge.json", "");
  fs::resize_file(folder_ / "huge.json", uint64_t{1} << 40);  // needs no space on the disk
  expect_refused("huge.json", "1099511627776 bytes");
  EXPECT_THROW(read_text_file("/dev/zero"), Error);
}

TEST_F(ModelFilesTest, GitLfsPointersAreCalledSo) {
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 988097824\n";
  write(folder_ / "tokenizer.json", pointer);
  expect_refused("tokenizer.json", "is a Git LFS pointer");
  expect_refused("tokenizer.json", "lfs pull");
  EXPECT_THROW(read_text_file(folder_ / "tokenizer.json"), Error);
  EXPECT_FALSE(is_lfs_pointer("version: 1"));
}

// A pipe that the user names, as the shell's <(...) does, is read.
TEST_F(ModelFilesTest, PipesOfTheUserAreRead) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ASSERT_EQ(::write(ends[1], "text", 4), 4);
  ::close(ends[1]);
  EXPECT_EQ(read_text_file("/dev/fd/" + std::to_string(ends[0])), "text");
  ::close(ends[0]);
}

}  // namespace
}  // namespace lewis
