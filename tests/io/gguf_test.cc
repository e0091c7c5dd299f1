// GGUF files against bytes laid out by hand, as the format's description has them.
#include "io/gguf.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "raw_file.h"
#include "temp_dir.h"

namespace lewis {
namespace {

template <typename T>
std::string raw(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
std::string raw_text(std::string_view text) {
  return raw(uint64_t{text.size()}) + std::string(text);
}

std::string head(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
  return "GGUF" + raw(version) + raw(tensors) + raw(keys);
}
std::string tensor(std::string_view name, const std::vector<uint64_t>& sizes, uint64_t offset,
                   uint32_t type = 0) {
  std::string text = raw_text(name) + raw(static_cast<uint32_t>(sizes.size()));
  for (const uint64_t size : sizes) text += raw(size);
  return text + raw(type) + raw(offset);
}
std::string padded(std::string text, size_t alignment = 32) {
  text.resize((text.size() + alignment - 1) / alignment * alignment, '\0');
  return text;
}

class Gguf : public testing::Test {
 protected:
  std::filesystem::path write(std::string_view bytes) {
    write_raw(file_, bytes);
    return file_;
  }

  void expect_refused(std::string_view bytes, const std::string& said) {
    write(bytes);
    try {
      const GgufFile opened(file_);
      FAIL() << "accepted; expected: " << said;
    } catch (const Error& e) {
      const std::string message = e.what();
      EXPECT_EQ(e.code(), ExitCode::kInput) << message;
      EXPECT_NE(message.find(file_.string()), std::string::npos) << message;
      EXPECT_NE(message.find(said), std::string::npos) << message << "\nexpected: " << said;
      EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    }
  }

  TempDir dir_;
  std::filesystem::path file_ = dir_.path / "x.gguf";
};

// Two keys and two tensors, [3] and [2, 3], of which the second begins at byte 32.
std::string small_file() {
  return padded(head(2, 2) + raw_text("general.type") + raw(uint32_t{8}) + raw_text("imatrix") +
                raw_text("n") + raw(uint32_t{4}) + raw(uint32_t{7}) + tensor("a", {3}, 0) +
                tensor("b", {3, 2}, 32)) +
         padded(raw(1.f) + raw(2.f) + raw(3.f)) +
         padded(raw(4.f) + raw(5.f) + raw(6.f) + raw(7.f) + raw(8.f) + raw(9.f));
}

TEST_F(Gguf, ReadsWhatTheFormatDescribes) {
  const GgufFile f(write(small_file()));
  EXPECT_EQ(std::get<std::string>(f.metadata().at("general.type")), "imatrix");
  EXPECT_EQ(std::get<uint32_t>(f.metadata().at("n")), 7u);
  ASSERT_EQ(f.entries().size(), 2u);
  EXPECT_EQ(f.find("b")->info, (TensorInfo{"b", DType::kF32, {2, 3}}));
  EXPECT_EQ(f.find("c"), nullptr);
  std::vector<float> values(2);
  f.read(*f.find("b"), 8, std::as_writable_bytes(std::span(values)));
  EXPECT_EQ(values, (std::vector<float>{6, 7}));
}

TEST_F(Gguf, WritesTheSameBytes) {
  const std::vector<float> a = {1, 2, 3}, b = {4, 5, 6, 7, 8, 9};
  write_gguf(file_, {{"general.type", "imatrix"}, {"n", uint32_t{7}}},
             {{"a", DType::kF32, {3}}, {"b", DType::kF32, {2, 3}}},
             std::array{std::as_bytes(std::span(a)), std::as_bytes(std::span(b))});
  EXPECT_EQ(read_raw(file_), small_file());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(file_.parent_path()), {}), 1)
      << "only the file itself";
}

TEST_F(Gguf, EveryTypeOfMetadataComesBack) {
  const std::vector<int16_t> numbers = {-1, 2};
  const auto bytes = std::as_bytes(std::span(numbers));
  const GgufMetadata metadata = {{"u8", uint8_t{200}},
                                 {"i8", int8_t{-3}},
                                 {"u16", uint16_t{60000}},
                                 {"i16", int16_t{-300}},
                                 {"u32", uint32_t{4000000000}},
                                 {"i32", int32_t{-70000}},
                                 {"f32", 1.5f},
                                 {"bool", true},
                                 {"text", "häuser"},
                                 {"texts", GgufArray{8, {"a", "", "c"}, {}}},
                                 {"numbers", GgufArray{3, {}, {bytes.begin(), bytes.end()}}},
                                 {"u64", uint64_t{1} << 60},
                                 {"i64", int64_t{-1} << 60},
                                 {"f64", 0.1}};
  write_gguf(file_, metadata, {}, {});
  EXPECT_EQ(GgufFile(file_).metadata(), metadata);
}

TEST_F(Gguf, AlignmentOfTheFile) {
  const std::string key = raw_text("general.alignment") + raw(uint32_t{4});
  const GgufFile f(write(
      padded(head(2, 1) + key + raw(uint32_t{8}) + tensor("b", {1}, 8) + tensor("a", {2}, 0), 8) +
      "01234567" + "89ab"));
  std::string bytes(4, ' ');
  f.read(*f.find("b"), 0, std::as_writable_bytes(std::span(bytes)));
  EXPECT_EQ(bytes, "89ab");
  for (const uint32_t bad : {0u, 4u, 12u, 1u << 30})
    expect_refused(padded(head(0, 1) + key + raw(bad)), "general.alignment");
}

TEST_F(Gguf, RefusesBrokenHeaders) {
  expect_refused("", "GGUF");
  expect_refused("GGUX" + raw(uint32_t{3}), "GGUF");
  expect_refused(head(0, 0, 2), "version 2");
  expect_refused(head(0, 0, 0x03000000), "big-endian");
  expect_refused(head(1ull << 60, 0), "the number of tensors");
  expect_refused(head(0, 1ull << 60), "the number of keys");
  const std::string rest(64, '\0');
  expect_refused(head(0, 1) + raw(uint64_t{1} << 62) + rest, "the length of the name of key 0");
  expect_refused(head(0, 1) + raw_text("") + rest, "the name of key 0");
  expect_refused(head(0, 1) + raw_text("a\nb") + rest, "the name of key 0");
  expect_refused(head(0, 1) + raw_text("\xff") + rest, "not UTF-8");
  expect_refused(head(0, 1) + raw_text("k") + raw(uint32_t{13}) + rest, "key 'k' has type 13");
  expect_refused(head(0, 1) + raw_text("k") + raw(uint32_t{7}) + "\x02" + rest, "key 'k' is 2");
  const std::string array = head(0, 1) + raw_text("k") + raw(uint32_t{9});
  expect_refused(array + raw(uint32_t{9}) + rest, "array of type 9");
  expect_refused(array + raw(uint32_t{10}) + raw(UINT64_MAX) + rest, "the length of key 'k'");
  const std::string key = raw_text("k") + raw(uint32_t{0}) + "\x01";
  expect_refused(head(0, 2) + key + key + rest, "key 'k' is there twice");
}

TEST_F(Gguf, RefusesBrokenTensors) {
  const auto file = [](const std::string& tensors, uint64_t count, size_t data) {
    return padded(head(count, 0) + tensors) + std::string(data, '\1');
  };
  expect_refused(file(tensor("a", {1, 1, 1, 1, 1}, 0), 1, 32), "5 dimensions");
  expect_refused(file(tensor("a", {0}, 0), 1, 32), "a size of 0");
  expect_refused(file(tensor("a", {1ull << 33, 1ull << 33}, 0), 1, 32), "too large");
  expect_refused(file(tensor("a", {8}, 0, 4), 1, 32), "has type 4");
  expect_refused(file(tensor("a", {8}, 0, 2), 1, 32), "fill no blocks of 32");
  expect_refused(file(tensor("a", {9}, 0), 1, 32), "tensor a ends");
  expect_refused(file(tensor("a", {8}, 32), 1, 64), "there is a hole");
  expect_refused(file(tensor("a", {8}, 0) + tensor("b", {8}, 0), 2, 64), "overlaps");
  expect_refused(file(tensor("a", {8}, 0) + tensor("a", {8}, 32), 2, 64), "a is there twice");
  expect_refused(file(tensor("a", {8}, 0), 1, 33), "something was appended?");
}

TEST_F(Gguf, NoDamageCrashes) {
  const std::string good = small_file();
  const auto open = [&](const std::string& bytes) {
    write(bytes);
    try {
      const GgufFile f(file_);
      for (const auto& entry : f.entries()) {
        std::vector<std::byte> data(byte_size(entry.info));
        f.read(entry, 0, data);
      }
      return true;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kInput) << e.what();
      return false;
    }
  };
  ASSERT_TRUE(open(good));
  for (size_t size = 0; size + 8 < good.size(); ++size) EXPECT_FALSE(open(good.substr(0, size)));
  for (size_t at = 0; at < good.size(); ++at) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ flip);
      open(bad);
    }
  }
}

TEST_F(Gguf, WhatHasNoPlaceIsNotWritten) {
  const std::vector<std::byte> data(4);
  const auto refused = [&](const TensorInfo& info) {
    EXPECT_THROW(write_gguf(file_, {}, {info}, std::array{std::span<const std::byte>(data)}),
                 Error);
    EXPECT_FALSE(std::filesystem::exists(file_));
  };
  refused({"a", DType::kU8, {4}});
  refused({std::string(64, 'n'), DType::kF32, {1}});
  refused({"a", DType::kF32, {1, 1, 1, 1, 1}});
}

}  // namespace
}  // namespace lewis
