#include "io/checkpoint.h"

#include <gtest/gtest.h>

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
  write_index(R"({"a": "two.safetensors", "b": "one.safetensors"})");
  expect_refused("tensor c is in this shard, but the index does not name it");
  write_index(
      R"({"a": "two.safetensors", "b": "one.safetensors", "c": "two.safetensors", "d": "two.safetensors"})");
  expect_refused("tensor d is not in shard two.safetensors");
  write_index(R"({"a": "two.safetensors", "b": "two.safetensors", "c": "two.safetensors"})");
  expect_refused("tensor b is not in shard");
  fs::remove(folder_ / "model.safetensors.index.json");
  expect_refused("neither model.safetensors");
  write_raw(folder_ / "pytorch_model.bin", "x");
  expect_refused("pickle");
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
