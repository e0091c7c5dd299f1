#include "io/json_lines.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/build.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "raw_file.h"
#include "temp_dir.h"

namespace lewis {
namespace {

const JournalIdentity kIdentity = {"test", "k1"};

class JsonLinesTest : public testing::Test {
 protected:
  JsonLinesTest() {
    OpenedJournal opened = open();
    for (const Json& record : records_) opened.journal.append(record);
    opened.journal.sync();
    whole_ = read_raw(file_);
  }
  OpenedJournal open(const JournalIdentity& identity = kIdentity,
                     Existing existing = Existing::kResume) const {
    return JsonLines::open(file_, identity, existing);
  }
  std::string refusal(const JournalIdentity& identity = kIdentity) const {
    try {
      open(identity);
      return "";
    } catch (const Error& e) {
      return e.what();
    }
  }

  TempDir dir_;
  std::filesystem::path file_ = dir_.path / "folder" / "j.jsonl";
  const std::vector<Json> records_ = {
      {{"n", 1}}, {{"text", "a\n\"b\" é"}, {"list", {1, 2.5}}}, {{"n", 3}}};
  std::string whole_;
};

TEST_F(JsonLinesTest, GivesBackWhatWasAppended) {
  EXPECT_EQ(open().records, records_);
  EXPECT_EQ(read_json_lines(file_, kIdentity), records_);
  EXPECT_EQ(read_raw(file_), whole_);
}

// Cut after every byte: whole records are there, and what is appended then follows them.
TEST_F(JsonLinesTest, IsCutWhereItIsTorn) {
  for (size_t bytes = 0; bytes <= whole_.size(); ++bytes) {
    write_raw(file_, whole_.substr(0, bytes));
    const auto lines = static_cast<size_t>(
        std::count(whole_.begin(), whole_.begin() + static_cast<std::ptrdiff_t>(bytes), '\n'));
    const size_t left = std::max<size_t>(lines, 1) - 1;
    {
      OpenedJournal opened = open();
      ASSERT_EQ(opened.records.size(), left) << bytes;
      opened.journal.append({{"n", 4}});
    }
    const std::vector<Json> found = open().records;
    ASSERT_EQ(found.size(), left + 1) << bytes;
    ASSERT_EQ(found.back(), (Json{{"n", 4}}));
  }
  write_raw(file_, whole_ + std::string(100, '\0'));  // as after a power cut
  EXPECT_EQ(open().records, records_);
}

// No changed line is believed, nor any behind it.
TEST_F(JsonLinesTest, AFlippedBitInAnyByteIsSeen) {
  const size_t first_line = whole_.find('\n') + 1;
  for (size_t at = 0; at + 1 < whole_.size(); ++at) {
    const size_t bit = at % 8;
    std::string bad = whole_;
    bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
    write_raw(file_, bad);
    if (at < first_line) {
      EXPECT_NE(refusal(), "") << at << " " << bit;
      EXPECT_EQ(read_raw(file_), bad) << "a refused file stays as it is";
    } else {
      const auto before = static_cast<size_t>(
          std::count(whole_.begin(), whole_.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
      const std::vector<Json> found = read_json_lines(file_, kIdentity);
      ASSERT_EQ(found.size(), before - 1) << at << " " << bit;
      ASSERT_TRUE(std::equal(found.begin(), found.end(), records_.begin()));
    }
  }
}

TEST_F(JsonLinesTest, LinesThatWereTakenOutOrMovedAreSeen) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < whole_.size();) {
    const size_t end = whole_.find('\n', at) + 1;
    lines.push_back(whole_.substr(at, end - at));
    at = end;
  }
  ASSERT_EQ(lines.size(), 4u);
  write_raw(file_, lines[0] + lines[2] + lines[3]);
  EXPECT_EQ(read_json_lines(file_, kIdentity).size(), 0u);
  write_raw(file_, lines[0] + lines[1] + lines[3] + lines[2]);
  EXPECT_EQ(read_json_lines(file_, kIdentity).size(), 1u);
}

TEST_F(JsonLinesTest, AnotherIdentityIsRefusedOrReplaced) {
  for (const JournalIdentity& other :
       {JournalIdentity{"test", "k2"}, JournalIdentity{"other", "k1"}}) {
    EXPECT_NE(refusal(other).find("begun with another recipe"), std::string::npos);
    EXPECT_THROW(read_json_lines(file_, other), Error);
  }
  EXPECT_EQ(read_raw(file_), whole_);
  EXPECT_EQ(open({"test", "k2"}, Existing::kResumeOrBegin).records.size(), 0u);
  EXPECT_NE(refusal(), "") << "k2's journal was begun in its place";
}

TEST_F(JsonLinesTest, AnotherBuildIsRefusedByName) {
  const std::string line = R"x({"lewis_journal":"test","key":"k1","program":"0.0.1 (build x)",)x";
  const std::string hash = hash_text(xxh3_64(std::as_bytes(std::span(line))));
  write_raw(file_, line + R"("xxh3":")" + hash + "\"}\n");
  EXPECT_NE(refusal().find("was begun by lewis 0.0.1 (build x), and this is lewis"),
            std::string::npos)
      << refusal();
  EXPECT_NE(refusal().find(version_and_build()), std::string::npos);
}

TEST_F(JsonLinesTest, BeginForgetsWhatWasThere) {
  EXPECT_EQ(open(kIdentity, Existing::kBegin).records.size(), 0u);
  EXPECT_EQ(open().records.size(), 0u);
}

TEST_F(JsonLinesTest, BeginsWithRecords) {
  {
    JsonLines journal = JsonLines::begin(file_, {"test", "k2"}, records_);
    journal.append({{"n", 4}});
  }
  std::vector<Json> expected = records_;
  expected.push_back({{"n", 4}});
  EXPECT_EQ(read_json_lines(file_, {"test", "k2"}), expected);
}

TEST_F(JsonLinesTest, IsOneProcesssAlone) {
  const OpenedJournal first = open();
  EXPECT_NE(refusal().find("another process"), std::string::npos);
}

TEST_F(JsonLinesTest, AFileThatIsNoJournalStays) {
  for (const char* text : {"something of mine\n", "{\"a\": 1}\n", "no line"}) {
    write_raw(file_, text);
    for (const Existing existing :
         {Existing::kResume, Existing::kResumeOrBegin, Existing::kBegin}) {
      EXPECT_THROW(open(kIdentity, existing), Error) << text;
    }
    EXPECT_EQ(read_raw(file_), text);
  }
}

}  // namespace
}  // namespace lewis
