#include "io/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <ctime>

#include "base/error.h"
#include "base/json.h"
#include "raw_file.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() {
    write_counting(folder_ / "one.safetensors", {{"b", DType::kF32, {2}}});
    write_counting(folder_ / "two.safetensors", {{"a", DType::kBF16, {3}}, {"c", DType::kU8, {1}}});
    write_index(R"({"a": "two.safetensors", "b": "one.safetensors", "c": "two.safetensors"})");
    write_raw(folder_ / "config.json", R"({"model_type": "llama"})");
  }

  void write_index(const std::string& weight_map) {
    write_raw(folder_ / "model.safetensors.index.json",
              R"({"metadata": {}, "weight_map": )" + weight_map + "}");
  }

  void expect_refused(const std::string& said) {
    try {
      Checkpoint::open(folder_);
      FAIL() << "accepted; expected: " << said;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kInput);
      EXPECT_NE(std::string(e.what()).find(said), std::string::npos) << e.what();
    }
  }

  TempDir dir_;
  fs::path folder_ = dir_.path / "model";
};

TEST_F(CheckpointTest, ShardsAreOneModel) {
  const Checkpoint c = Checkpoint::open(folder_);
  ASSERT_EQ(c.tensors().size(), 3u);
  EXPECT_EQ(c.tensors()[0].name, "a");
  EXPECT_EQ(c.tensors()[2].name, "c");
  EXPECT_EQ(c.total_bytes(), 15u);
  EXPECT_EQ(c.label(), folder_.string());
  EXPECT_EQ(c.config()["model_type"], "llama");
  std::vector<uint8_t> bytes(4);
  c.read(c.get("b"), 1, std::as_writable_bytes(std::span(bytes)));
  EXPECT_EQ(bytes, (std::vector<uint8_t>{4, 5, 6, 7}));
  EXPECT_THROW(c.get("d"), Error);
}

TEST_F(CheckpointTest, RefusesWhatDoesNotFit) {
  write_index(R"({"a": "../x.safetensors"})");
  expect_refused("leaves the folder");
  write_index(R"({"a": "/etc/passwd"})");
  expect_refused("leaves the folder");
  write_index(R"({"a": ".."})");
  expect_refused("leaves the folder");
  write_index(R"({"a": 1})");
  expect_refused("not a name");
  write_index("{}");
  expect_refused("empty");
  write_index(R"({"a": "two.safetensors", "b": "three.safetensors", "c": "two.safetensors"})");
  expect_refused("three.safetensors: shard is missing");
  fs::remove(folder_ / "model.safetensors.index.json");
  expect_refused("neither model.safetensors");
  write_raw(folder_ / "pytorch_model.bin", "x");
  expect_refused("pickle");
}

// Indexes as programs write them take a quicker way than all others.
TEST_F(CheckpointTest, EverySpellingOfAnIndexIsReadTheSame) {
  const std::string map =
      R"({"a": "two.safetensors", "b": "one.safetensors", "c": "two.safetensors"})";
  for (const std::string& index :
       {R"({"weight_map":)" + map + "}",
        R"({"metadata": {"total_size": 15}, "weight_map": )" + map + "}",
        R"({"weight_map": )" + map + R"(, "metadata": {"total_size": 15}})",
        R"({"metadata": {"total_size": 15.0, "x": [1]}, "weight_map": )" + map + "}",
        std::string(R"({"weight_map": {"\u0061": "two.safetensors", "b": "one.safetensors",)"
                    R"( "c": "two\u002esafetensors"}})")}) {
    write_raw(folder_ / "model.safetensors.index.json", index);
    const Checkpoint c = Checkpoint::open(folder_);
    EXPECT_EQ(c.tensors().size(), 3u) << index;
    EXPECT_TRUE(c.notes().empty()) << index;
  }
}

// An index that says what is not so does not keep others from loading the shards; a note says it.
TEST_F(CheckpointTest, WhereTheIndexIsWrongTheShardsDecide) {
  struct Case {
    const char *weight_map, *said;
  };
  const Case cases[] = {
      {R"({"a": "two.safetensors", "b": "one.safetensors"})",
       "c lies in a shard, but is not named"},
      {R"({"a": "two.safetensors", "b": "one.safetensors", "c": "two.safetensors",
           "d": "two.safetensors"})",
       "d is named, but no shard holds it"},
      {R"({"0": "one.safetensors", "a": "two.safetensors", "b": "one.safetensors",
           "c": "two.safetensors", "d": "two.safetensors"})",
       "0 and 1 more are named, but no shard holds them"},
      {R"({"a": "two.safetensors", "b": "two.safetensors", "c": "one.safetensors"})",
       "b and 1 more lie in other shards"},
      {R"({"a": "two.safetensors", "b": "one.safetensors", "c": "two.safetensors",
           "a": "two.safetensors"})",
       "a is named twice"}};
  for (const Case& c : cases) {
    write_index(c.weight_map);
    const Checkpoint opened = Checkpoint::open(folder_);
    EXPECT_EQ(opened.tensors().size(), 3u) << c.weight_map;
    ASSERT_EQ(opened.notes().size(), 1u) << c.weight_map;
    EXPECT_NE(opened.notes()[0].find(c.said), std::string::npos) << opened.notes()[0];
  }
}

TEST_F(CheckpointTest, ATensorInSeveralShardsIsReadWhereTheIndexSays) {
  write_counting(folder_ / "one.safetensors", {{"a", DType::kBF16, {3}}, {"b", DType::kF32, {2}}},
                 7);
  for (const auto& [shard, first] : {std::pair("one", 7), std::pair("two", 0)}) {
    write_index(fmt::format(
        R"({{"a": "{}.safetensors", "b": "one.safetensors", "c": "two.safetensors"}})", shard));
    const Checkpoint c = Checkpoint::open(folder_);
    std::vector<uint8_t> bytes(6);
    c.read(c.get("a"), 0, std::as_writable_bytes(std::span(bytes)));
    EXPECT_EQ(bytes[0], first) << shard;
    ASSERT_EQ(c.notes().size(), 1u);
    EXPECT_NE(c.notes()[0].find("a lies in several shards"), std::string::npos) << c.notes()[0];
  }
}

TEST_F(CheckpointTest, WeightsBesideThoseThatAreReadAreNoted) {
  write_counting(folder_ / "model-00001-of-00009.safetensors", {{"z", DType::kF32, {2}}});
  const Checkpoint shards = Checkpoint::open(folder_);
  EXPECT_EQ(shards.tensors().size(), 3u);
  ASSERT_EQ(shards.notes().size(), 1u);
  EXPECT_NE(shards.notes()[0].find("model-00001-of-00009.safetensors is not read"),
            std::string::npos)
      << shards.notes()[0];
  fs::remove(folder_ / "model-00001-of-00009.safetensors");
  write_counting(folder_ / "model.safetensors", {{"b", DType::kF32, {2}}});
  const Checkpoint single = Checkpoint::open(folder_);  // transformers looks for it first
  EXPECT_EQ(single.tensors().size(), 1u);
  ASSERT_EQ(single.notes().size(), 1u);
  EXPECT_NE(single.notes()[0].find("index"), std::string::npos) << single.notes()[0];
}

TEST_F(CheckpointTest, WhatIsNoFileIsRefusedAtOnce) {
  for (const char* name : {"config.json", "model.safetensors.index.json", "one.safetensors"}) {
    const fs::path file = folder_ / name;
    const std::string content = read_raw(file);
    fs::remove(file);
    ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
    expect_refused(name);
    fs::remove(file);
    fs::create_symlink("/dev/zero", file);
    expect_refused(name);
    fs::remove(file);
    fs::create_symlink(name, file);  // a loop
    expect_refused(name);
    fs::remove(file);
    write_raw(file, content);
  }
  EXPECT_EQ(Checkpoint::open(folder_).tensors().size(), 3u);
}

TEST_F(CheckpointTest, GitLfsPointersAreCalledSo) {
  const std::string pointer =
      "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 988097824\n";
  for (const char* name : {"config.json", "model.safetensors.index.json", "one.safetensors"}) {
    const std::string content = read_raw(folder_ / name);
    write_raw(folder_ / name, pointer);
    expect_refused("is a Git LFS pointer");
    write_raw(folder_ / name, content);
  }
  fs::remove(folder_ / "model.safetensors.index.json");
  write_raw(folder_ / "model.safetensors", pointer);
  expect_refused("lfs pull");
  fs::remove(folder_ / "model.safetensors");
  write_raw(folder_ / "pytorch_model.bin", pointer);
  expect_refused("is a Git LFS pointer");
}

// DeepSeek-V3 has 92,000 tensors, Kimi K2 139,000. Time that grows with the square of their number
// would be minutes.
TEST_F(CheckpointTest, ManyTensorsOpenInLinearTime) {
  constexpr size_t kTensors = 140'000;
  std::vector<TensorInfo> tensors;
  std::string index = "{";
  for (size_t i = 0; i < kTensors; ++i) {
    tensors.push_back(
        {fmt::format("model.layers.{}.mlp.experts.{}.w", i / 256, i % 256), DType::kU8, {1}});
    index += fmt::format("{}\"{}\": \"one.safetensors\"", i ? "," : "", tensors.back().name);
  }
  write_index(index + "}");
  const std::clock_t begin = std::clock();
  const std::byte byte{};
  const std::vector<std::span<const std::byte>> data(kTensors, std::span(&byte, 1));
  write_safetensors(folder_ / "one.safetensors", tensors, data, {});
  EXPECT_EQ(Checkpoint::open(folder_).tensors().size(), kTensors);
  EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, 20);  // also sanitized
}

TEST_F(CheckpointTest, ConfigMustBeAnObject) {
  write_raw(folder_ / "config.json", "[]");
  expect_refused("config.json");
  fs::remove(folder_ / "config.json");
  const Checkpoint c = Checkpoint::open(folder_);  // merging needs none
  EXPECT_THROW(c.config(), Error);
}

// The layout of the Hugging Face cache: snapshots/REV/NAME -> ../../blobs/HASH.
TEST_F(CheckpointTest, LinksOfACacheAreFollowed) {
  const fs::path cache = dir_.path / "models--x--y", snapshot = cache / "snapshots/0123";
  fs::create_directories(cache / "blobs");
  fs::create_directories(snapshot);
  size_t n = 0;
  for (const auto& entry : fs::directory_iterator(folder_)) {
    const fs::path blob = cache / "blobs" / std::to_string(n++);
    fs::copy_file(entry.path(), blob);
    fs::create_symlink("../../blobs" / blob.filename(), snapshot / entry.path().filename());
  }
  EXPECT_EQ(Checkpoint::open(snapshot).tensors().size(), 3u);
}

TEST_F(CheckpointTest, FingerprintChangesWithTheModel) {
  const std::string before = Checkpoint::open(folder_).fingerprint();
  EXPECT_EQ(before, Checkpoint::open(folder_).fingerprint());
  write_raw(folder_ / "config.json", R"({"model_type": "llamb"})");
  const std::string config = Checkpoint::open(folder_).fingerprint();
  EXPECT_NE(config, before);
  fs::last_write_time(folder_ / "one.safetensors",
                      fs::last_write_time(folder_ / "one.safetensors") + std::chrono::seconds(1));
  EXPECT_NE(Checkpoint::open(folder_).fingerprint(), config);
}

TEST(TensorSource, FloatsOfEveryArithmeticType) {
  const TempDir dir;
  const float value = 1.5f;
  const uint16_t f16 = 0x3e00, bf16 = 0x3fc0, infinite = 0x7f80;
  const std::vector<std::span<const std::byte>> data = {
      std::as_bytes(std::span(&value, 1)), std::as_bytes(std::span(&f16, 1)),
      std::as_bytes(std::span(&bf16, 1)), std::as_bytes(std::span(&infinite, 1))};
  write_safetensors(dir.path / "model.safetensors",
                    {{"f32", DType::kF32, {1}},
                     {"f16", DType::kF16, {1}},
                     {"bf16", DType::kBF16, {1}},
                     {"inf", DType::kBF16, {1}}},
                    data, {});
  const Checkpoint c = Checkpoint::open(dir.path);
  for (const char* name : {"f32", "f16", "bf16"})
    EXPECT_EQ(c.read_floats(c.get(name)), std::vector<float>{1.5f});
  EXPECT_THROW(c.read_floats(c.get("inf")), Error);
}

}  // namespace
}  // namespace lewis
