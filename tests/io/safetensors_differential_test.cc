// The reader of safetensors against one that was written apart from it, on thousands of damaged
// files: both refuse a file, or both find the same tensors in it.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <random>

#include "base/error.h"
#include "io/plain_safetensors.h"
#include "io/safetensors.h"
#include "temp_dir.h"

namespace lewis {
namespace {

std::optional<plain::Tensors> read_by_lewis(const std::filesystem::path& path) {
  try {
    const SafetensorsFile file(path);
    plain::Tensors tensors;
    const uint64_t data = 8 + file.header().size();
    for (const auto& e : file.entries()) {
      plain::Tensor& t = tensors[e.info.name];
      t.dtype = dtype_name(e.info.dtype);
      t.shape.assign(e.info.shape.begin(), e.info.shape.end());
      t.begin = e.begin - data;
      t.end = t.begin + byte_size(e.info);
    }
    return tensors;
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string with_length(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + header + data;
}

// Valid headers, each with the size of its data: several dtypes, spellings and orders.
const std::vector<std::pair<std::string, size_t>> kHeaders = {
    {R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}})",
     32},
    {R"({"__metadata__":{"format":"pt","x":"\u00e9\ud83d\ude00"},"w":{"shape":[1],"dtype":"I64","data_offsets":[0,8]}}   )",
     8},
    {R"({"s":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"e":{"dtype":"F16","shape":[0,7],"data_offsets":[1,1]}})",
     1},
    {R"( { "t\"\\\n" : { "dtype" : "F8_E4M3" , "shape" : [ 2 , 2 ] , "data_offsets" : [ 0 , 4 ] } } )",
     4},
    {R"({"x":{"dtype":"F4","shape":[4],"data_offsets":[0,2]},"y":{"dtype":"C64","shape":[1,1,1],"data_offsets":[2,10]}})",
     10},
    {R"({})", 0},
    {R"({"é":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]},"z":{"dtype":"F64","shape":[1],"data_offsets":[3,11]}})",
     11}};

// What is put into headers: parts that mean something there.
const std::vector<std::string> kParts = {"{",
                                         "}",
                                         "[",
                                         "]",
                                         ",",
                                         ":",
                                         "\"",
                                         "\\",
                                         "\\u0061",
                                         "\\ud800",
                                         "0",
                                         "1",
                                         "-1",
                                         "1.0",
                                         "1e2",
                                         "00",
                                         "18446744073709551615",
                                         "18446744073709551616",
                                         "null",
                                         "true",
                                         "\"dtype\"",
                                         "\"F32\"",
                                         "\"a\"",
                                         "__metadata__",
                                         "\xff",
                                         "\xc3\xa9",
                                         "\xed\xa0\x80",
                                         "\x01",
                                         " ",
                                         "\t",
                                         "9223372036854775808",
                                         "\"shape\":[1],",
                                         "\"a\":{},",
                                         "\\/",
                                         "\xef\xbb\xbf"};

class Mutator {
 public:
  std::string damaged() {
    auto [header, size] = kHeaders[below(kHeaders.size())];
    for (size_t n = 1 + below(8) / 6; n > 0; --n) change(header);
    if (below(8) == 0) size += below(3);
    if (below(8) == 0) size -= std::min(size, below(3));
    std::string file = with_length(header, std::string(size, 'd'));
    if (below(16) == 0) file[below(8)] = static_cast<char>(below(256));
    if (below(32) == 0) file.resize(below(file.size() + 1));
    return file;
  }

 private:
  size_t below(size_t n) { return random_() % n; }

  void change(std::string& s) {
    if (s.empty()) return;
    const size_t at = below(s.size()), length = 1 + below(std::min<size_t>(12, s.size() - at));
    switch (below(9)) {
      case 0:
        s[at] = static_cast<char>(s[at] ^ 1 << below(8));
        break;
      case 1:
        s.erase(at, length);
        break;
      case 2:
        s.insert(at, kParts[below(kParts.size())]);
        break;
      case 3:
        s.replace(at, length, kParts[below(kParts.size())]);
        break;
      case 4:
        s.insert(below(s.size()), s.substr(at, length));
        break;
      case 5:
        digit(s, at);
        break;
      case 6:
        letter(s, at);
        break;
      case 7:
        s.insert(std::min(s.find_first_of("{}[]:,", at), s.size()), " ");
        break;
      default:
        s.insert(at, s, 0, s.size() / 2);
        break;
    }
  }

  static void letter(std::string& s, size_t at) {
    const size_t found = s.find_first_of("abwxyz", at);
    if (found != s.npos) s[found] = 'k';
  }

  // Another digit in place of the next one.
  void digit(std::string& s, size_t at) {
    const size_t found = s.find_first_of("0123456789", at);
    if (found != s.npos) s[found] = static_cast<char>('0' + below(10));
  }

  std::mt19937 random_{20261130};
};

TEST(SafetensorsDifferential, BothReadersAgreeOnDamagedFiles) {
  constexpr int kFiles = 10'000;
  const TempDir dir;
  const auto path = dir.path / "model.safetensors";
  Mutator mutator;
  int accepted = 0;
  for (int i = 0; i < kFiles; ++i) {
    const std::string file = mutator.damaged();
    std::ofstream(path, std::ios::binary | std::ios::trunc) << file;
    const auto ours = read_by_lewis(path), theirs = plain::read(file);
    ASSERT_EQ(ours.has_value(), theirs.has_value())
        << "file " << i << ": " << testing::PrintToString(file);
    ASSERT_TRUE(ours == theirs) << "file " << i << ": " << testing::PrintToString(file);
    accepted += ours.has_value();
  }
  EXPECT_GT(accepted, kFiles / 20);  // not all are refused at once
}

TEST(SafetensorsDifferential, BothReadTheHeadersThatAreDamaged) {
  const TempDir dir;
  const auto path = dir.path / "model.safetensors";
  for (const auto& [header, size] : kHeaders) {
    const std::string file = with_length(header, std::string(size, 'd'));
    std::ofstream(path, std::ios::binary | std::ios::trunc) << file;
    EXPECT_TRUE(plain::read(file).has_value()) << header;
    EXPECT_TRUE(read_by_lewis(path) == plain::read(file)) << header;
  }
}

}  // namespace
}  // namespace lewis
