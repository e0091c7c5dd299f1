// Compressed lines, CSV, Parquet and folders of data sets give the same rows as lines of JSON.
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/json.h"
#include "base/text_file.h"
#include "model_folder.h"
#include "text/data_bytes.h"
#include "text/data_set.h"
#include "text/dataset.h"
#include "text/formats/guess.h"
#include "text/line_reader.h"

namespace fs = std::filesystem;

namespace lewis {
namespace {

const fs::path kTables = fs::path(LEWIS_TEST_DATA) / "tables";

std::vector<Json> rows_of(const fs::path& data) {
  std::vector<Json> rows;
  LineReader lines(data);
  while (const auto line = lines.next()) rows.push_back(parse_json(*line, lines.where()));
  return rows;
}

void write(const fs::path& file, std::string_view bytes) {
  fs::create_directories(file.parent_path());
  write_file(file, bytes);
}

// Runs a program of the system, which packs without lewis.
void run(const std::string& command) { ASSERT_EQ(std::system(command.c_str()), 0) << command; }

// ---- Parquet, written by pyarrow (tools/make_parquet_samples.py) ----

TEST(Tables, ParquetOfEveryKindHasTheRowsOfItsLines) {
  const auto expected = rows_of(kTables / "rows.jsonl");
  ASSERT_EQ(expected.size(), 40u);
  for (const char* name : {"none_v1", "none_v2", "snappy_v1", "snappy_v2", "gzip_v1", "gzip_v2",
                           "zstd_v1", "zstd_v2", "lz4_v1", "lz4_v2", "plain_pages", "delta"})
    EXPECT_EQ(rows_of(kTables / (std::string(name) + ".parquet")), expected) << name;
}

TEST(Tables, ParquetValues) {
  EXPECT_EQ(rows_of(kTables / "values.parquet"), rows_of(kTables / "values.jsonl"));
  EXPECT_TRUE(rows_of(kTables / "empty.parquet").empty());
}

TEST(Tables, ParquetIsKnownByItsBytes) {
  TempDir dir;
  fs::copy(kTables / "snappy_v1.parquet", dir.path / "blob");
  EXPECT_EQ(rows_of(dir.path / "blob"), rows_of(kTables / "rows.jsonl"));
}

TEST(Tables, AnErrorOfARowNamesIt) {
  DataOptions options{kTables / "snappy_v1.parquet", DataFormat::kGsm8k, "", ""};
  const std::string null = error_of([&] { read_data(options, nullptr); });
  EXPECT_TRUE(contains(null, "snappy_v1.parquet, row 4: the field 'answer' must be a string"))
      << null;
  options.format = DataFormat::kMbpp;
  const std::string other = error_of([&] { read_data(options, nullptr); });
  EXPECT_TRUE(contains(other, "question, answer, source, tags, messages")) << other;
}

// Every cut and many changed bytes: rows or an error, never more memory than allowed, no crash.
TEST(Tables, DamagedParquetIsRefused) {
  TempDir dir;
  const fs::path file = dir.path / "x.parquet";
  for (const char* name : {"snappy_v1", "zstd_v2", "plain_pages"}) {
    const std::string whole = read_text_file(kTables / (std::string(name) + ".parquet"));
    for (size_t size = 4; size < whole.size(); size += 1 + whole.size() / 12) {
      write_file(file, std::string_view(whole).substr(0, size));
      EXPECT_TRUE(contains(error_of([&] { rows_of(file); }), "cannot be read as Parquet")) << size;
    }
    for (size_t at = 4; at < whole.size(); at += 1 + whole.size() / 40) {
      std::string changed = whole;
      changed[at] = static_cast<char>(changed[at] ^ 0x55);
      write_file(file, changed);
      try {
        rows_of(file);
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), ExitCode::kInput) << e.what();
        EXPECT_TRUE(contains(e.what(), "x.parquet")) << e.what();
      }
    }
  }
}

// ---- CSV ----

TEST(Tables, CsvAsRfc4180SaysIt) {
  TempDir dir;
  write_file(
      dir.path / "t.csv",
      "\xef\xbb\xbfquestion,answer\r\n\"two\r\nlines, \"\"quoted\"\"\",4\r\n,\r\nx,\"\"\n\"é\",z");
  const std::vector<Json> expected = {{{"question", "two\r\nlines, \"quoted\""}, {"answer", "4"}},
                                      {{"question", ""}, {"answer", ""}},
                                      {{"question", "x"}, {"answer", ""}},
                                      {{"question", "é"}, {"answer", "z"}}};
  EXPECT_EQ(rows_of(dir.path / "t.csv"), expected);
  write_file(dir.path / "t.tsv", "question\tanswer\na, b\t\"c\td\"\n");
  EXPECT_EQ(rows_of(dir.path / "t.tsv"),
            (std::vector<Json>{{{"question", "a, b"}, {"answer", "c\td"}}}));
}

TEST(Tables, CsvThatIsNone) {
  TempDir dir;
  const fs::path file = dir.path / "t.csv";
  const std::vector<std::pair<std::string, std::string>> kWrong = {
      {"a,a\n1,2\n", "twice"},
      {"a,b\n1,2\n3\n", "1 field"},
      {"a,b\n1,\xff\n", "UTF-8"},
      {"a,b\n\"" + std::string(size_t{65} << 20, 'x'), "64 MiB"}};
  for (const auto& [text, said] : kWrong) {
    write_file(file, text);
    const std::string error = error_of([&] { rows_of(file); });
    EXPECT_TRUE(contains(error, said) && contains(error, "t.csv")) << error;
  }
  write_file(file, "");
  EXPECT_TRUE(rows_of(file).empty());
}

// ---- compressed ----

TEST(Tables, CompressedLinesAreUnpacked) {
  TempDir dir;
  const auto expected = rows_of(kTables / "rows.jsonl");
  const std::string from = (kTables / "rows.jsonl").string(), to = (dir.path / "r.jsonl").string();
  run("gzip -c '" + from + "' > '" + to + ".gz'");
  EXPECT_EQ(rows_of(to + ".gz"), expected);
  run("gzip -c '" + from + "' > '" + to + "' && gzip -c /dev/null >> '" + to + "'");
  EXPECT_EQ(rows_of(to), expected) << "two members, and a name that says nothing";
  run("printf 'a,b\\n1,2\\n' | gzip -c > '" + dir.path.string() + "/t.csv.gz'");
  EXPECT_EQ(rows_of(dir.path / "t.csv.gz"), (std::vector<Json>{{{"a", "1"}, {"b", "2"}}}));
  DataOptions text{dir.path / "n.txt.gz", DataFormat::kText, "", ""};
  run("printf 'some text' | gzip -c > '" + text.file.string() + "'");
  EXPECT_EQ(read_data(text, nullptr).at(0).answer, "some text");
  const std::string packed = read_text_file(to + ".gz");
  for (const size_t size : {size_t{4}, size_t{12}, packed.size() / 2, packed.size() - 1}) {
    write_file(dir.path / "cut.gz", std::string_view(packed).substr(0, size));
    EXPECT_TRUE(contains(error_of([&] { rows_of(dir.path / "cut.gz"); }), "cut.gz")) << size;
  }
  std::string changed = packed;
  changed[packed.size() / 2] ^= 0x10;
  write_file(dir.path / "changed.gz", changed);
  EXPECT_TRUE(contains(error_of([&] { rows_of(dir.path / "changed.gz"); }), "changed.gz"));
}

// Frames of Zstandard with raw blocks, written by hand (RFC 8878, section 3.1).
std::string zstd_frame(const std::string& text) {
  std::string frame("\x28\xb5\x2f\xfd\x00\x58", 6);                 // no size, a window of 2 MiB
  const auto header = static_cast<uint32_t>(text.size() << 3 | 1);  // the last block, raw
  for (int i = 0; i < 3; ++i) frame += static_cast<char>(header >> 8 * i);
  return frame + text;
}

TEST(Tables, ZstandardIsUnpacked) {
  TempDir dir;
  write_file(dir.path / "r.jsonl.zst", zstd_frame("{\"a\":1}\n") + zstd_frame("{\"a\":2}\n"));
  EXPECT_EQ(rows_of(dir.path / "r.jsonl.zst"), (std::vector<Json>{{{"a", 1}}, {{"a", 2}}}));
  write_file(dir.path / "cut.zst", zstd_frame("{\"a\":1}\n").substr(0, 12));
  EXPECT_TRUE(contains(error_of([&] { rows_of(dir.path / "cut.zst"); }), "cut.zst"));
}

// A block that repeats one byte 128 KiB long takes four bytes: such a file is no text.
TEST(Tables, ABombIsRefused) {
  TempDir dir;
  std::string frame("\x28\xb5\x2f\xfd\x00\x58", 6);
  const uint32_t block = (128u << 10) << 3 | 1 << 1;  // repeats
  for (int k = 0; k < 3000; ++k) {
    for (int i = 0; i < 3; ++i) frame += static_cast<char>(block >> 8 * i);
    frame += '\n';
  }
  write_file(dir.path / "bomb.zst", frame);
  const auto unpack = [&] {
    DataBytes bytes(dir.path / "bomb.zst");
    for (std::string piece(1 << 20, ' '); bytes.read(piece.data(), piece.size()) > 0;) continue;
  };
  EXPECT_TRUE(contains(error_of(unpack), "far more than"));
}

// ---- folders ----

std::vector<std::string> names(const fs::path& folder, const std::string& part) {
  std::vector<std::string> all;
  for (const fs::path& file : data_files(folder.string() + part))
    all.push_back(fs::relative(file, folder).string());
  return all;
}

TEST(Tables, FoldersByTheNamesOfTheirFiles) {
  using Names = std::vector<std::string>;
  TempDir dir;
  for (const char* name : {"main/train-00000-of-00001.parquet", "main/test-00000-of-00001.parquet",
                           "socratic/train-00000-of-00001.parquet", "README.md"})
    write(dir.path / "gsm8k" / name, "");
  EXPECT_EQ(names(dir.path / "gsm8k", "#main/test"), (Names{"main/test-00000-of-00001.parquet"}));
  EXPECT_EQ(names(dir.path / "gsm8k", "#socratic/"),
            (Names{"socratic/train-00000-of-00001.parquet"}));
  EXPECT_TRUE(contains(error_of([&] { names(dir.path / "gsm8k", ""); }), "main, socratic"));
  EXPECT_TRUE(contains(error_of([&] { names(dir.path / "gsm8k", "#main/tset"); }), "test, train"));
  EXPECT_TRUE(
      contains(error_of([&] { names(dir.path / "gsm8k", "#man/test"); }), "main, socratic"));
  for (const char* name : {"data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet",
                           "data/test_sft-00000-of-00001.parquet", ".hidden.jsonl"})
    write(dir.path / "plain" / name, "");
  EXPECT_EQ(names(dir.path / "plain", ""),
            (Names{"data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"}));
  EXPECT_EQ(names(dir.path / "plain", "#test_sft"),
            (Names{"data/test_sft-00000-of-00001.parquet"}));
  write(dir.path / "lines/gsm8k_test.jsonl", "");
  write(dir.path / "lines/gsm8k_train.jsonl", "");
  EXPECT_EQ(names(dir.path / "lines", "#test"), (Names{"gsm8k_test.jsonl"}));
  write(dir.path / "one/anything.jsonl.gz", "");
  EXPECT_EQ(names(dir.path / "one", ""), (Names{"anything.jsonl.gz"}));
  write(dir.path / "none/code.py", "");
  EXPECT_TRUE(contains(error_of([&] { names(dir.path / "none", ""); }), "a folder without data"));
}

TEST(Tables, FoldersByTheirReadme) {
  using Names = std::vector<std::string>;
  TempDir dir;
  const fs::path set = dir.path / "set";
  for (const char* name : {"a/x-1.jsonl", "a/x-2.jsonl", "b/y.jsonl", "z.csv"})
    write(set / name, "");
  write(set / "README.md",
        "---\nlicense: mit\nconfigs:\n- config_name: first\n  default: true\n  data_files:\n"
        "  - split: train\n    path: a/x-*\n  - split: heldout\n    path: [b/y.jsonl, ../*]\n"
        "- config_name: second\n  data_files: z.csv\n- config_name: third\n  data_dir: b\n"
        "- config_name: away\n  data_files: /etc/passwd\n---\n# text\n");
  EXPECT_EQ(names(set, ""), (Names{"a/x-1.jsonl", "a/x-2.jsonl"}));
  EXPECT_EQ(names(set, "#first/heldout"), (Names{"b/y.jsonl"}));
  EXPECT_EQ(names(set, "#heldout"), (Names{"b/y.jsonl"}));
  EXPECT_EQ(names(set, "#second/"), (Names{"z.csv"}));
  EXPECT_EQ(names(set, "#third/train"), (Names{"b/y.jsonl"}));
  EXPECT_TRUE(contains(error_of([&] { names(set, "#away/"); }), "first, second, third"));
  write(set / "README.md", "---\n: [broken\n---\n");
  EXPECT_EQ(names(set, ""), (Names{"z.csv"})) << "by names then";
}

TEST(Tables, ShardsAreReadOneAfterTheOther) {
  TempDir dir;
  write(dir.path / "data/train-00000-of-00002.jsonl", "{\"a\":1}\n{\"a\":2}");
  write(dir.path / "data/train-00001-of-00002.jsonl.gz", "{\"a\":3}\n");
  EXPECT_EQ(rows_of(dir.path), (std::vector<Json>{{{"a", 1}}, {{"a", 2}}, {{"a", 3}}}));
  const std::string hash = data_file_hash(dir.path);
  write(dir.path / "data/train-00001-of-00002.jsonl.gz", "{\"a\":4}\n");
  EXPECT_NE(data_file_hash(dir.path), hash);
  EXPECT_EQ(data_file_hash(dir.path / "data/train-00000-of-00002.jsonl"),
            data_file_hash(dir.path / "data/train-00000-of-00002.jsonl"));
}

// ---- formats by columns ----

TEST(Tables, FormatsAreToldByColumns) {
  TempDir dir;
  const std::vector<std::pair<std::string, DataFormat>> kRows = {
      {R"({"question": "", "answer": ""})", DataFormat::kGsm8k},
      {R"({"text": "", "code": "", "test_list": []})", DataFormat::kMbpp},
      {R"({"prompt": "", "instruction_id_list": [], "kwargs": []})", DataFormat::kIfeval},
      {R"({"messages": []})", DataFormat::kChat},
      {R"({"conversations": []})", DataFormat::kChat},
      {R"({"prompt": "", "response": ""})", DataFormat::kChat},
      {R"({"instruction": "", "input": "", "output": ""})", DataFormat::kChat},
      {R"({"instruction": "", "context": "", "response": ""})", DataFormat::kChat},
      {R"({"ids": [1]})", DataFormat::kIds},
      {R"({"text": ""})", DataFormat::kJsonl}};
  for (const auto& [row, format] : kRows) {
    write_file(dir.path / "d.jsonl", "\n" + row + "\n");
    EXPECT_EQ(guess_format(dir.path / "d.jsonl"), format) << row;
  }
  EXPECT_EQ(guess_format(kTables / "zstd_v2.parquet"), DataFormat::kChat);
  write_file(dir.path / "d.txt", "text");
  EXPECT_EQ(guess_format(dir.path / "d.txt"), DataFormat::kText);
  write_file(dir.path / "d.csv", "title,body\n1,2\n");
  const std::string error = error_of([&] { guess_format(dir.path / "d.csv"); }, ExitCode::kUsage);
  EXPECT_TRUE(contains(error, "title, body")) << error;
}

TEST(Tables, ChatReadsTheUsualColumns) {
  TempDir dir;
  const ChatTemplate chat(
      "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
      "{% if add_generation_prompt %}<assistant>{% endif %}",
      "template");
  const std::vector<std::pair<std::string, std::string>> kRows = {
      {R"({"prompt": "p", "response": "r"})", "<user>p</s><assistant>|r</s>"},
      {R"({"prompt": "p", "completion": "r", "system": "s"})",
       "<system>s</s><user>p</s><assistant>|r</s>"},
      {R"({"instruction": "i", "input": "more", "output": "o"})",
       "<user>i\n\nmore</s><assistant>|o</s>"},
      {R"({"instruction": "i", "input": "", "output": "o"})", "<user>i</s><assistant>|o</s>"},
      {R"({"instruction": "i", "input": null, "output": "o"})", "<user>i</s><assistant>|o</s>"},
      {R"({"instruction": "i", "context": "c", "response": "o"})",
       "<user>i\n\nc</s><assistant>|o</s>"},
      {R"({"question": "q", "answer": "a"})", "<user>q</s><assistant>|a</s>"},
      {R"({"prompt": [{"role": "user", "content": "p"}], "completion": [{"role": "assistant", "content": "r"}]})",
       "<user>p</s><assistant>|r</s>"},
      {R"({"messages": "[{\"role\": \"user\", \"content\": \"p\"}, {\"role\": \"assistant\", \"content\": \"r\"}]"})",
       "<user>p</s><assistant>|r</s>"}};
  for (const auto& [row, text] : kRows) {
    write_file(dir.path / "c.jsonl", row + "\n");
    const auto items = read_data({dir.path / "c.jsonl", DataFormat::kChat, "", ""}, &chat);
    ASSERT_EQ(items.size(), 1u) << row;
    EXPECT_EQ(items[0].prompt + "|" + items[0].answer, text);
  }
  write_file(dir.path / "c.jsonl", "{\"title\": 1, \"body\": 2}\n");
  const std::string error = error_of([&] {
    read_data({dir.path / "c.jsonl", DataFormat::kChat, "", ""}, &chat);
  });
  EXPECT_TRUE(contains(error, "title, body")) << error;
}

}  // namespace
}  // namespace lewis
