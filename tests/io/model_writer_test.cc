#include "io/model_writer.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <set>

#include "base/error.h"
#include "base/json.h"
#include "base/page_buffer.h"
#include "base/threads.h"
#include "io/checkpoint.h"
#include "io/manifest.h"
#include "io/out_folder.h"
#include "raw_file.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

const std::vector<TensorInfo> kTensors = {{"d", DType::kF32, {4}},
                                          {"a", DType::kBF16, {4}},
                                          {"c", DType::kU8, {3}},
                                          {"b", DType::kF32, {2, 2}}};

void write_all(ModelWriter& writer) {
  for (size_t t = 0; t < writer.tensors().size(); ++t) {
    std::vector<std::byte> bytes(byte_size(writer.tensors()[t]));
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
    writer.write(t, 0, std::span(bytes).first(1));
    writer.write(t, 1, std::span(bytes).subspan(1));
  }
}

class ModelWriterTest : public testing::Test {
 protected:
  void expect_refused(ExitCode code, const std::string& said, const WriterOptions& options = {}) {
    try {
      ModelWriter writer(out_, kTensors, options);
      FAIL() << "accepted; expected: " << said;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), code) << e.what();
      EXPECT_NE(std::string(e.what()).find(said), std::string::npos) << e.what();
    }
  }

  TempDir dir_;
  fs::path out_ = dir_.path / "out", partial_ = dir_.path / "out.partial";
};

TEST_F(ModelWriterTest, OneShard) {
  ModelWriter writer(out_, kTensors, {});
  write_all(writer);
  writer.add_file("config.json", "{}");
  EXPECT_FALSE(fs::exists(out_));
  writer.commit();
  EXPECT_FALSE(fs::exists(partial_));
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(out_)) names.insert(entry.path().filename());
  EXPECT_EQ(names,
            (std::set<std::string>{"config.json", "lewis_manifest.json", "model.safetensors"}));
  const SafetensorsFile f(out_ / "model.safetensors");
  EXPECT_EQ(f.metadata(), (Metadata{{"format", "pt"}}));
  EXPECT_EQ(f.entries().size(), 4u);
}

TEST_F(ModelWriterTest, ShardsAreNamedAndIndexedAsHuggingFaceDoes) {
  ModelWriter writer(out_, kTensors, {.shard_bytes = 24});
  EXPECT_EQ(writer.shards(), 2u);  // a and b: 24 bytes; c and d: 19
  write_all(writer);
  writer.commit();
  const Json index = read_json(out_ / "model.safetensors.index.json");
  EXPECT_EQ(index["metadata"]["total_size"], 43);
  EXPECT_EQ(index["weight_map"].size(), 4u);
  EXPECT_EQ(index["weight_map"]["a"], index["weight_map"]["b"]);
  EXPECT_TRUE(fs::exists(out_ / "model-00001-of-00002.safetensors"));
  EXPECT_EQ(Checkpoint::open(out_).tensors().size(), 4u);
}

// Large pieces that lie in memory as they will in the file go there by themselves, all others
// through a buffer; small ones come in between.
TEST_F(ModelWriterTest, TheFileIsTheSameHoweverItsBytesLieInMemory) {
  const std::vector<TensorInfo> tensors = {{"a", DType::kU8, {5}},
                                           {"b", DType::kU8, {3'000'001}},
                                           {"c", DType::kU8, {9'000'000}},
                                           {"d", DType::kU8, {70'000}},
                                           {"e", DType::kU8, {1 << 21}}};
  const auto value = [](size_t tensor, size_t i) {
    return static_cast<std::byte>(i * 31 + i / 4096 + tensor);
  };
  constexpr size_t kAlignment = 4096, kPart = 2'500'000;
  for (const size_t shift : {0, 1, 4095}) {
    const fs::path out = out_.string() + std::to_string(shift);
    ModelWriter writer(out, tensors, {});
    PageBuffer room;
    for (size_t t = 0; t < tensors.size(); ++t) {
      const size_t size = byte_size(writer.tensors()[t]);
      for (size_t at = 0; at < size; at += kPart) {
        const size_t n = std::min(kPart, size - at);
        const auto part = room.get(kPart + 2 * kAlignment).subspan(writer.lead(t, at) + shift, n);
        for (size_t i = 0; i < n; ++i) part[i] = value(t, at + i);
        writer.write(t, at, part);
      }
    }
    writer.commit();
    const Checkpoint read = Checkpoint::open(out);
    for (size_t t = 0; t < tensors.size(); ++t) {
      std::vector<std::byte> bytes(byte_size(tensors[t]));
      read.read(read.get(tensors[t].name), 0, bytes);
      size_t wrong = 0;
      for (size_t i = 0; i < bytes.size(); ++i) wrong += bytes[i] != value(t, i);
      EXPECT_EQ(wrong, 0u) << tensors[t].name << " " << shift;
    }
    Threads threads(2);
    EXPECT_NO_THROW(verify_folder(out, threads, {}));
  }
}

TEST_F(ModelWriterTest, ATensorLargerThanAShardGetsOneOfItsOwn) {
  ModelWriter writer(out_, kTensors, {.shard_bytes = 1});
  EXPECT_EQ(writer.shards(), 4u);
  write_all(writer);
  writer.commit();
  EXPECT_EQ(Checkpoint::open(out_).tensors().size(), 4u);
}

TEST_F(ModelWriterTest, WithoutCommitNothingStays) {
  {
    ModelWriter writer(out_, kTensors, {});
    write_all(writer);
  }
  EXPECT_TRUE(fs::is_empty(dir_.path));
}

TEST_F(ModelWriterTest, CommitNeedsEveryByte) {
  {
    ModelWriter writer(out_, kTensors, {});
    const std::vector<std::byte> bytes(3);
    writer.write(0, 0, bytes);
    EXPECT_THROW(writer.commit(), Error);
  }
  EXPECT_TRUE(fs::is_empty(dir_.path));
}

TEST_F(ModelWriterTest, LeftoversOfAKilledRunAreReplacedButNothingElse) {
  fs::create_directories(partial_);
  write_raw(partial_ / "precious.txt", "x");
  expect_refused(ExitCode::kUsage, "not left by lewis");
  EXPECT_TRUE(fs::exists(partial_ / "precious.txt"));
  write_raw(partial_ / ".lewis-partial", "");
  ModelWriter writer(out_, kTensors, {});
  write_all(writer);
  writer.commit();
  EXPECT_FALSE(fs::exists(out_ / "precious.txt"));
}

TEST_F(ModelWriterTest, AnOutThatExistsNeedsForce) {
  write_raw(out_ / "config.json", "{}");
  write_raw(out_ / "model.safetensors", "old");
  expect_refused(ExitCode::kUsage, "--force");
  ModelWriter writer(out_, kTensors, {.force = true});
  EXPECT_EQ(read_raw(out_ / "model.safetensors"), "old");  // until the new one is whole
  write_all(writer);
  writer.commit();
  EXPECT_EQ(Checkpoint::open(out_).tensors().size(), 4u);
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_.path), {}), 1);
}

TEST_F(ModelWriterTest, ForceReplacesModelFoldersOnly) {
  write_raw(out_ / "thesis.tex", "x");
  expect_refused(ExitCode::kUsage, "thesis.tex", {.force = true});
  fs::remove_all(out_);
  fs::create_directories(out_ / "folder");
  expect_refused(ExitCode::kUsage, "folder", {.force = true});
  fs::remove_all(out_);
  write_raw(out_, "a file");
  expect_refused(ExitCode::kUsage, "not a folder", {.force = true});
}

TEST_F(ModelWriterTest, TextsAreNoModel) {
  for (const char* name : {"thesis.txt", "README.md", "config.json", "notes.json", "LICENSE"}) {
    write_raw(out_ / name, "x");
    expect_refused(ExitCode::kUsage, "is no model", {.force = true});
    fs::remove_all(out_);
  }
  // A model beside which something else lies.
  for (const char* name : {"thesis.txt", "notes.md", "data/x.json", ".git/config", "recipe.yml"}) {
    write_raw(out_ / "config.json", "{}");
    write_raw(out_ / "pytorch_model.bin", "x");
    write_raw(out_ / name, "x");
    expect_refused(ExitCode::kUsage, name, {.force = true});
    EXPECT_TRUE(fs::exists(out_ / name));
    fs::remove_all(out_);
  }
}

// What lewis has written it replaces, with all that the manifest names.
TEST_F(ModelWriterTest, ForceReplacesItsOwnFolders) {
  for (int run = 0; run < 2; ++run) {
    ModelWriter writer(out_, kTensors, {.force = true});
    write_all(writer);
    writer.add_file("additional_chat_templates/tool_use.jinja", "x");
    writer.add_file("odd.txt", "x");
    writer.commit();
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_.path), {}), 1);
  Threads threads(1);
  EXPECT_NO_THROW(verify_folder(out_, threads, {}));
}

TEST_F(ModelWriterTest, LinksAreNotFollowedIntoADeletion) {
  const fs::path other = dir_.path / "other";
  write_raw(other / "config.json", "{}");
  write_raw(other / "model.safetensors", "precious");
  write_raw(other / ".lewis-partial", "");
  fs::create_directory_symlink(other, out_);
  expect_refused(ExitCode::kUsage, "is a link", {.force = true});
  expect_refused(ExitCode::kUsage, "exists already");
  EXPECT_THROW(refuse_existing_out(out_ / "", true), Error);  // "out/" is the link, too
  fs::remove(out_);
  fs::create_directory_symlink(other, partial_);
  expect_refused(ExitCode::kUsage, "is a link");
  EXPECT_EQ(read_raw(other / "model.safetensors"), "precious");
}

// The name alone does not make a folder ours.
TEST_F(ModelWriterTest, APartialIsOursByItsContent) {
  for (const char* name : {"manifest.jsonl", "lewis_manifest.json"}) {
    for (const char* content : {"", "{}", "{\"lewis_journal\":\"evaluation\",\"key\":1}\n"}) {
      write_raw(partial_ / "precious.txt", "x");
      write_raw(partial_ / name, content);
      expect_refused(ExitCode::kUsage, "not left by lewis");
      EXPECT_TRUE(fs::exists(partial_ / "precious.txt"));
      fs::remove_all(partial_);
    }
  }
}

TEST_F(ModelWriterTest, OutAndSourcesKeepApart) {
  fs::create_directories(dir_.path / "base/inside");
  fs::create_symlink(dir_.path / "base", dir_.path / "link");
  const std::vector<fs::path> sources = {dir_.path / "base"};
  for (const char* out :
       {"base", "base/", "base/new", "base/inside/../x", "link", "link/new", "."}) {
    EXPECT_THROW(refuse_out_in_sources(dir_.path / out, sources), Error) << out;
  }
  for (const char* out : {"base2", "bas", "new/base"})
    EXPECT_NO_THROW(refuse_out_in_sources(dir_.path / out, sources)) << out;
}

TEST_F(ModelWriterTest, AFullDiskIsSaidBeforeTheWork) {
  const fs::path mounted = dir_.path / "small";
  fs::create_directory(mounted);
  if (geteuid() != 0 || ::mount("tmpfs", mounted.c_str(), "tmpfs", 0, "size=64k") != 0)
    GTEST_SKIP() << "needs root to mount a small tmpfs";
  out_ = mounted / "out";
  try {
    ModelWriter writer(out_, {{"large", DType::kF32, {1 << 20}}}, {});
    ADD_FAILURE() << "4 MiB fitted into 64 KiB";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kResource) << e.what();
  }
  EXPECT_TRUE(fs::is_empty(mounted));
  ::umount(mounted.c_str());
}

}  // namespace
}  // namespace lewis
