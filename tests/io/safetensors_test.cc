#include "io/safetensors.h"

#include <gtest/gtest.h>

#include <sys/stat.h>

#include <random>

#include "base/error.h"
#include "base/json.h"
#include "raw_file.h"
#include "temp_dir.h"

namespace lewis {
namespace {

const std::string kEight = "01234567";

class Safetensors : public testing::Test {
 protected:
  std::filesystem::path write(std::string_view bytes) {
    write_raw(file_, bytes);
    return file_;
  }

  // Refused as input, on one line that names the file and `said`.
  void expect_refused(std::string_view bytes, const std::string& said) {
    write(bytes);
    try {
      const SafetensorsFile opened(file_);
      FAIL() << "accepted; expected: " << said;
    } catch (const Error& e) {
      const std::string message = e.what();
      EXPECT_EQ(e.code(), ExitCode::kInput) << message;
      EXPECT_NE(message.find(file_.string()), std::string::npos) << message;
      EXPECT_NE(message.find(said), std::string::npos) << message << "\nexpected: " << said;
      EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    }
  }
  void expect_header_refused(std::string_view header, const std::string& said,
                             std::string_view data = kEight) {
    expect_refused(raw_safetensors(header, data), said);
  }

  TempDir dir_;
  std::filesystem::path file_ = dir_.path / "model.safetensors";
};

TEST_F(Safetensors, Minimal) {
  const SafetensorsFile f(write(raw_safetensors(
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
      kEight)));
  ASSERT_EQ(f.entries().size(), 1u);
  EXPECT_EQ(f.entries()[0].info, (TensorInfo{"a", DType::kF32, {2}}));
  EXPECT_EQ(f.metadata().at("format"), "pt");
  std::string bytes(4, ' ');
  f.read(*f.find("a"), 2, std::as_writable_bytes(std::span(bytes)));
  EXPECT_EQ(bytes, "2345");
  EXPECT_EQ(f.find("b"), nullptr);
}

TEST_F(Safetensors, EmptyTensorsScalarsAndEmptyFiles) {
  const SafetensorsFile f(write(raw_safetensors(
      R"({"e":{"dtype":"F32","shape":[0,4],"data_offsets":[0,0]},"s":{"dtype":"F64","shape":[],"data_offsets":[0,8]}})",
      kEight)));
  EXPECT_EQ(element_count(f.find("e")->info.shape), 0);
  EXPECT_EQ(element_count(f.find("s")->info.shape), 1);
  EXPECT_TRUE(SafetensorsFile(write(raw_safetensors("{}", ""))).entries().empty());
}

TEST_F(Safetensors, RefusesBrokenFiles) {
  expect_refused("", "0 bytes");
  expect_refused("1234567", "7 bytes");
  expect_refused(std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8), "at most 100000000");
  expect_refused(std::string("\x01\xe1\xf5\x05\0\0\0\0", 8), "at most 100000000");  // 100,000,001
  expect_refused(std::string("\x10\0\0\0\0\0\0\0{}", 10), "truncated?");
  expect_refused(raw_safetensors("", ""), "JSON");
}

TEST_F(Safetensors, RefusesBrokenHeaders) {
  expect_header_refused("[]", "not a JSON object");
  expect_header_refused("{", "JSON");
  expect_header_refused("{\"\xff\":1}", "UTF-8");
  expect_header_refused(R"({"__metadata__":{"a":1}})", "__metadata__.a", "");
  expect_header_refused(R"({"a":{"dtype":"F5","shape":[2],"data_offsets":[0,8]}})",
                        "\"F5\" is not known");
  expect_header_refused(R"({"a":{"dtype":"F4","shape":[5,3],"data_offsets":[0,8]}})",
                        "[5, 3] of F4 does not fill whole bytes");
  expect_header_refused(R"({"a":{"dtype":"F6_E2M3","shape":[2],"data_offsets":[0,8]}})",
                        "does not fill whole bytes");
  expect_header_refused(R"({"a":{"dtype":"F4","shape":[8],"data_offsets":[0,8]}})",
                        "needs 4 bytes");
  expect_header_refused(R"({"a":{"dtype":"F32","shape":[2]}})",
                        "exactly dtype, shape and data_offsets");
  expect_header_refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})",
                        "exactly");
  expect_header_refused(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})",
                        "non-negative");
  expect_header_refused(R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})",
                        "non-negative");
  expect_header_refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8.0]}})",
                        "non-negative");
  expect_header_refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", "two numbers");
  expect_header_refused(R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", "not a list");
  expect_header_refused(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})",
                        "needs 4 bytes");
  expect_header_refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})",
                        "data_offsets [8, 0]");
  expect_header_refused(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
      "duplicate key");
}

// Headers as programs write them take a quicker way than all others.
TEST_F(Safetensors, TheQuickWayAndTheStrictOneReadTheSame) {
  const std::string tensor = R"("dtype":"F32","shape":[2,1],"data_offsets":[0,8])";
  const auto read = [&](const std::string& header) {
    write_raw(file_, raw_safetensors(header, std::string(8, 'x')));
    return SafetensorsFile(file_);
  };
  const SafetensorsFile plain = read(R"({"__metadata__":{"k":"v"},"a.b":{)" + tensor + "}}");
  EXPECT_EQ(plain.metadata(), (Metadata{{"k", "v"}}));
  ASSERT_EQ(plain.entries().size(), 1u);
  EXPECT_EQ(plain.entries()[0].info, (TensorInfo{"a.b", DType::kF32, {2, 1}}));
  for (const std::string& header :
       {R"({ "__metadata__" : { "k" : "v" } , "a.b" : {)" + tensor + "} }  \n\t\r",
        R"({"a.b":{)" + tensor + R"(},"__metadata__":{"k":"v"}})",
        R"({"__metadata__":{"k":"\u0076"},"a.b":{)" + tensor + "}}",
        R"({"__metadata__":{"k":"v"},"a\u002eb":{)" + tensor + "}}",
        std::string(R"({"__metadata__":{"k":"v"},"a.b":)"
                    R"({"data_offsets":[0,8],"shape":[2,1],"dtype":"F32"}})")}) {
    const SafetensorsFile other = read(header);
    EXPECT_EQ(other.metadata(), plain.metadata()) << header;
    ASSERT_EQ(other.entries().size(), 1u) << header;
    EXPECT_EQ(other.entries()[0].info, plain.entries()[0].info) << header;
  }
  // Almost plain, and wrong.
  for (
      const char* broken :
      {R"({"a":{"dtype":"F32","shape":[02,1],"data_offsets":[0,8]}})",
       R"({"a":{"dtype":"F32","shape":[2,],"data_offsets":[0,8]}})",
       R"({"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},})",
       R"({"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}x)",
       R"({"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]})",
       R"({"a":{"dtype":"F32","shape":[+2,1],"data_offsets":[0,8]}})",
       R"({"a":{"dtype":"F32","shape":[18446744073709551618,1],"data_offsets":[0,8]}})",
       R"({"a":{"dtype":"F32","shape":[9223372036854775808,0],"data_offsets":[0,8]}})",
       R"({"__metadata__":{"k":"v","k":"w"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
       R"({"__metadata__":{"k":"v"},"__metadata__":{"k":"v"},)"
       R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
       "{\"a\nb\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"}) {
    EXPECT_THROW(read(broken), Error) << broken;
  }
}

TEST_F(Safetensors, RefusesSizesThatOverflow) {
  expect_header_refused(
      R"({"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}})", "too large");
  expect_header_refused(
      R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", "too large");
  expect_header_refused(
      R"({"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,8]}})", "too large");
  expect_header_refused(
      R"({"a":{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,8]}})",
      "non-negative");
}

TEST_F(Safetensors, RefusesHolesOverlapsAndWrongLengths) {
  const std::string a = R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  expect_header_refused("{" + a + R"(,"b":{"dtype":"U8","shape":[3],"data_offsets":[5,8]}})",
                        "hole");
  expect_header_refused("{" + a + R"(,"b":{"dtype":"U8","shape":[5],"data_offsets":[3,8]}})",
                        "overlaps");
  expect_header_refused("{" + a + R"(,"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
                        "overlaps", "0123");
  expect_header_refused("{" + a + "}", "appended");
  expect_header_refused("{" + a + "}", "truncated", "012");
  expect_header_refused(R"({"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})", "hole");
}

// Bytes of a good header changed at random: a clear refusal or a file that still is what it says.
TEST_F(Safetensors, ChangedHeadersNeverCrash) {
  const std::string good = raw_safetensors(
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[2,1],"data_offsets":[4,8]}})",
      kEight);
  std::mt19937 random(1);
  size_t accepted = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = good;
    for (uint64_t n = random() % 3 + 1; n > 0; --n)
      bytes[random() % (bytes.size() - 8)] = static_cast<char>(random());
    if (round % 4 == 0) bytes.resize(random() % bytes.size());
    write(bytes);
    try {
      const SafetensorsFile f(file_);
      ++accepted;
      uint64_t sum = 0;
      for (const auto& e : f.entries()) sum += byte_size(e.info);
      EXPECT_EQ(sum + 8 + f.header().size(), bytes.size());
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kInput) << e.what();
    }
  }
  EXPECT_GT(accepted, 0u);  // a changed name is still a good file
}

TEST_F(Safetensors, EveryTypeGoesToDiskAndBack) {
  std::vector<TensorInfo> tensors;
  for (const char* name :
       {"BOOL",        "F8_E4M3",     "BF16",    "F64",     "F32",     "F16", "F8_E5M2", "I64",
        "I32",         "I16",         "I8",      "U8",      "U16",     "U32", "U64",     "C64",
        "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0", "F6_E2M3", "F6_E3M2", "F4"}) {
    tensors.push_back({name, *dtype_from_name(name), {4, 1}});
  }
  tensors.push_back({"empty", DType::kF32, {0}});
  write_counting(file_, tensors);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(file_.parent_path()), {}), 1)
      << "only the file itself";
  const SafetensorsFile f(file_);
  EXPECT_EQ((8 + f.header().size()) % 8, 0u);
  for (const TensorInfo& t : tensors) {
    const auto* entry = f.find(t.name);
    ASSERT_NE(entry, nullptr);
    EXPECT_EQ(entry->info, t);
    EXPECT_EQ(entry->begin % dtype_size(t.dtype), 0u) << t.name << " is not aligned";
    std::vector<uint8_t> bytes(byte_size(t));
    f.read(*entry, 0, std::as_writable_bytes(std::span(bytes)));
    for (size_t i = 0; i < bytes.size(); ++i) EXPECT_EQ(bytes[i], i);
  }
}

TEST_F(Safetensors, AFileThatShrinksIsAnErrorNotASignal) {
  write_counting(file_, {{"a", DType::kF32, {100}}});
  const SafetensorsFile f(file_);
  std::filesystem::resize_file(file_, 200);
  std::vector<std::byte> bytes(400);
  EXPECT_THROW(f.read(*f.find("a"), 0, bytes), Error);
}

TEST_F(Safetensors, WhatIsNoFileIsRefused) {
  EXPECT_THROW(SafetensorsFile{dir_.path}, Error);
  EXPECT_THROW(SafetensorsFile{dir_.path / "none"}, Error);
  const auto pipe = dir_.path / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THROW(SafetensorsFile{pipe}, Error);  // and does not wait for a writer
}

}  // namespace
}  // namespace lewis
