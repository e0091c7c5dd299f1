#include "io/manifest.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <random>

#include "base/error.h"
#include "io/model_writer.h"
#include "raw_file.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

class ManifestTest : public testing::Test {
 protected:
  ManifestTest() {
    ModelWriter writer(
        out_, {{"a", DType::kF32, {16, 16}}, {"b", DType::kBF16, {200}}, {"c", DType::kU8, {9}}},
        {.shard_bytes = 1100, .plan = "plan"});
    std::mt19937 random(1);
    for (size_t t = 0; t < writer.tensors().size(); ++t) {
      std::vector<std::byte> bytes(byte_size(writer.tensors()[t]));
      for (std::byte& b : bytes) b = static_cast<std::byte>(random());
      const size_t half = bytes.size() / 2;  // in pieces, the second half first
      writer.write(t, half, std::span(bytes).subspan(half));
      writer.write(t, 0, std::span(bytes).first(half));
    }
    writer.add_file("config.json", "{\"model_type\": \"llama\"}");
    writer.commit({{"seed", 1}});
  }

  uint64_t verify() {
    Threads threads(2);
    return verify_folder(out_, threads, {});
  }

  std::string refusal() {
    try {
      verify();
      return "";
    } catch (const Error& e) {
      EXPECT_TRUE(e.code() == ExitCode::kVerify || e.code() == ExitCode::kInput) << e.what();
      return e.what();
    }
  }

  TempDir dir_;
  fs::path out_ = dir_.path / "out";
};

TEST_F(ManifestTest, WhatWasWrittenIsVerified) {
  EXPECT_GT(verify(), 1024u + 400 + 9);
  const Manifest m = read_manifest(out_ / kManifestName);
  EXPECT_EQ(m.plan, "plan");
  EXPECT_EQ(m.shards.size(), 2u);
  EXPECT_EQ((*m.about)["seed"], 1);
}

TEST_F(ManifestTest, EveryFlippedBitIsSeen) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(out_)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::mt19937 random(2);
  for (int flip = 0; flip < 1000; ++flip) {
    const fs::path& file = files[random() % files.size()];
    const std::string good = read_raw(file);
    std::string bad = good;
    const size_t at = random() % bad.size(), bit = random() % 8;
    bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
    write_raw(file, bad);
    EXPECT_NE(refusal(), "") << file << " byte " << at << " bit " << bit;
    write_raw(file, good);
  }
  EXPECT_EQ(refusal(), "");
}

TEST_F(ManifestTest, NamesTheTensor) {
  const fs::path shard = out_ / "model-00001-of-00002.safetensors";
  std::string bytes = read_raw(shard);
  bytes[bytes.size() - 100] ^= 1;
  write_raw(shard, bytes);
  EXPECT_NE(refusal().find("tensor a is not what was written"), std::string::npos) << refusal();
}

TEST_F(ManifestTest, MissingFilesAreNamed) {
  fs::remove(out_ / "config.json");
  EXPECT_NE(refusal().find("config.json: is missing"), std::string::npos);
  fs::remove(out_ / kManifestName);
  EXPECT_NE(refusal().find("lewis_manifest.json"), std::string::npos);
}

// What a loader would read in place of what was merged, or beside it.
TEST_F(ManifestTest, ModelFilesThatAreNotNamedAreRefused) {
  for (const char* name : {"model.safetensors",
                           "model-00003-of-00002.safetensors",
                           "consolidated.safetensors",
                           "adapter_model.safetensors",
                           "adapter_config.json",
                           "pytorch_model.bin",
                           "pytorch_model.bin.index.json",
                           "generation_config.json",
                           "tokenizer.json",
                           "tokenizer.model",
                           "modeling_llama.py",
                           "model.gguf",
                           "tf_model.h5",
                           "flax_model.msgpack",
                           "model.pt",
                           "config.4.0.0.json",
                           "quantize_config.json",
                           "chat_template.jinja",
                           "preprocessor_config.json",
                           "additional_chat_templates/tool.jinja",
                           "1_Pooling/config.json",
                           "original/consolidated.00.pth",
                           "onnx/model.onnx",
                           "deep/er/model.safetensors"}) {
    write_raw(out_ / name, "x");
    EXPECT_NE(refusal().find(std::string(name) + ": was not written by the merge"),
              std::string::npos)
        << name << ": " << refusal();
    fs::remove(out_ / name);
  }
  fs::create_symlink("/dev/null", out_ / "model.safetensors");
  EXPECT_NE(refusal(), "");
  fs::remove(out_ / "model.safetensors");
  fs::create_directory_symlink(dir_.path, out_ / "more");
  EXPECT_NE(refusal(), "");
  fs::remove(out_ / "more");
  for (const char* name : {"report.html", "lewis_run.json", "README.md", ".git/x.py", "figure.svg"})
    write_raw(out_ / name, "x");
  EXPECT_EQ(refusal(), "");
}

TEST_F(ManifestTest, WhatIsNoFileIsRefusedAtOnce) {
  for (const fs::path& name : {fs::path("config.json"), fs::path(kManifestName)}) {
    const std::string content = read_raw(out_ / name);
    fs::remove(out_ / name);
    ASSERT_EQ(::mkfifo((out_ / name).c_str(), 0600), 0);
    EXPECT_NE(refusal().find(name.string()), std::string::npos);
    fs::remove(out_ / name);
    write_raw(out_ / name, content);
  }
  EXPECT_EQ(refusal(), "");
}

TEST(ShardRecord, IsTheSameBehindAJournal) {
  const ShardRecord record{"s1", 5, "aa", {{"t", "1"}}};
  const ShardRecord back = shard_from_json(to_json(record));
  EXPECT_EQ(back.name, "s1");
  EXPECT_EQ(back.bytes, 5u);
  EXPECT_EQ(back.sha256, "aa");
  EXPECT_EQ(back.tensors, record.tensors);
  EXPECT_THROW(shard_from_json(to_json({"../s1", 5, "aa", {}})), Error) << "leaves the folder";
  EXPECT_THROW(shard_from_json({{"item", 1}}), Error);
}

}  // namespace
}  // namespace lewis
