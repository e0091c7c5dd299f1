// Names and texts of strangers: whatever they hold, each line that is printed is one that a
// terminal shows as it is, and a page or card shows them and nothing else.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "run_lewis.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// Sets a title, hides, turns around, ends the line, forges an error, closes a tag.
const std::string kEvil =
    "e\x1b]0;PWN\x07\x1b[8m\u009b2J\u202e\u2066\u200f\u061c\u2028\U000e0041\ufeff\nlewis: error: "
    "forged\r<script>`|*";
// As the name of a file, also with bytes that are not UTF-8: lead bytes before an escape.
const std::string kEvilName = "e\x1b]0;PWN\x07\xdd\x1b[2J\xe2\x82\u202e\nforged\r<b>`*";

// The first place in a text that a terminal would not show as it is; npos if it is harmless.
// Written apart from base/printable.cc: Unicode's ranges as they are listed in the issue of each
// kind.
size_t harmful(const std::string& text) {
  const auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
  };
  for (size_t i = 0; i < text.size();) {
    const unsigned lead = byte(i);
    size_t n = 1;
    unsigned code = lead;
    if (lead >= 0xf0 && lead < 0xf5) {
      n = 4;
      code = lead & 7u;
    } else if (lead >= 0xe0 && lead < 0xf0) {
      n = 3;
      code = lead & 15u;
    } else if (lead >= 0xc2 && lead < 0xe0) {
      n = 2;
      code = lead & 31u;
    } else if (lead >= 0x80) {
      return i;
    }
    for (size_t k = 1; k < n; ++k) {
      if (byte(i + k) < 0x80 || byte(i + k) > 0xbf) return i;
      code = code * 64 + (byte(i + k) - 0x80);
    }
    const bool control = (code < 32 && code != '\n') || (code >= 127 && code < 160);
    const bool turns = code == 0x61c || code == 0x200e || code == 0x200f ||
                       (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
    const bool hidden = code == 0x2028 || code == 0x2029 || code == 0xfeff || code == 0x200b ||
                        (code >= 0xd800 && code <= 0xdfff) || (code >= 0xe0000 && code <= 0xe0fff);
    if (control || turns || hidden) return i;
    i += n;
  }
  return std::string::npos;
}

void expect_harmless(const std::string& text, const std::string& what) {
  const size_t at = harmful(text);
  EXPECT_EQ(at, std::string::npos) << what << ": "
                                   << Json(text.substr(at < 40 ? 0 : at - 40, 80))
                                          .dump(-1, ' ', true, Json::error_handler_t::replace);
  for (const char* forged : {"\nforged", "\nlewis: error: forged"})
    EXPECT_EQ(text.find(forged), std::string::npos) << what << ": a line of its own";
}

class Escapes : public LewisTest {
 protected:
  // A model of one-element tensors.
  fs::path model(const std::string& name, const std::vector<std::string>& tensors, float value) {
    const fs::path folder = dir_.path / name;
    fs::create_directories(folder);
    Json header = Json::object();
    std::string data;
    for (const std::string& tensor : tensors) {
      header[tensor] = {{"dtype", "F32"},
                        {"shape", {1}},
                        {"data_offsets", {data.size(), data.size() + sizeof value}}};
      data.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    const uint64_t size = text.size();
    std::ofstream file(folder / "model.safetensors", std::ios::binary);
    file.write(reinterpret_cast<const char*>(&size), sizeof size);
    file << text << data;
    return folder;
  }

  std::string recipe(const std::string& text) {
    std::ofstream(dir_.path / "r.yml") << text;
    return quoted(dir_.path / "r.yml");
  }

  static std::string quoted(const fs::path& path) { return "'" + path.string() + "'"; }
  static std::string yaml(const fs::path& path) { return Json(path.string()).dump(); }

  lewis::Run harmless(const std::string& command, int code) {
    lewis::Run run = lewis(command);
    EXPECT_EQ(run.code, code) << command << "\n" << run.err;
    expect_harmless(run.out, "stdout of " + command.substr(0, 20));
    expect_harmless(run.err, "stderr of " + command.substr(0, 20));
    if (code != 0) {
      EXPECT_EQ(std::ranges::count(run.err, '\n'), 1) << run.err;
    }
    return run;
  }
};

TEST_F(Escapes, NamesOfTensors) {
  const fs::path a = model("a", {kEvil, "x"}, 1), b = model("b", {kEvil + "b", "x"}, 2),
                 c = model("c", {kEvil, "x"}, 3), nan = model("nan", {kEvil}, NAN);
  const std::string text = recipe("merge_method: linear\nmodels:\n- {model: " + yaml(a) +
                                  ", parameters: {weight: 1}}\n- {model: " + yaml(c) +
                                  ", parameters: {weight: 1}}\ndtype: float32\n");
  harmless("inspect " + quoted(a), 0);
  const lewis::Run listed = harmless("inspect --json " + quoted(a), 0);
  EXPECT_TRUE(parse_json(listed.out, "stdout")["tensors"].contains(kEvil)) << "the same value";
  harmless("inspect " + quoted(a) + " $'" + "nowhere\\x1b[2J'", 3);
  harmless("diff " + quoted(a) + " " + quoted(b), 0);
  harmless("diff --json " + quoted(a) + " " + quoted(b), 0);
  harmless("check " + text, 0);
  harmless("plan " + text, 0);
  harmless("merge " + text + " " + out(), 0);
  harmless("verify " + out(), 0);
  harmless("report " + out(), 0);
  expect_harmless(file_text(out() + "/report.html"), "the page");
  EXPECT_EQ(file_text(out() + "/report.html").find("<script>`"), std::string::npos);
  harmless("merge " +
               recipe("merge_method: linear\nmodels: [{model: " + yaml(nan) +
                      ", parameters: {weight: 1}}]\ndtype: float32\n") +
               " " + out() + "2 -q",
           3);
  harmless("merge " +
               recipe("merge_method: linear\nmodels:\n- {model: " + yaml(a) +
                      ", parameters: {weight: 1}}\n- {model: " + yaml(b) +
                      ", parameters: {weight: 1}}\ndtype: float32\n") +
               " " + out() + "2 -q",
           3);
}

TEST_F(Escapes, NamesOfFolders) {
  const fs::path evil = model(kEvilName, {"x"}, 1), plain = model("plain", {"x"}, 2);
  harmless("inspect " + quoted(evil), 0);
  harmless("inspect --json " + quoted(evil), 0);
  harmless("diff --json " + quoted(evil) + " " + quoted(plain), 0);
  const std::string text = recipe("merge_method: linear\nmodels:\n- {model: " + yaml(plain) +
                                  ", parameters: {weight: 1}}\ndtype: float32\n");
  const std::string result = quoted(evil / kEvilName);
  harmless("merge " + text + " " + result, 0);
  harmless("merge " + text + " " + result, 2);
  harmless("verify " + result, 0);
  harmless("verify --json " + result, 0);
  harmless("report " + result, 0);
  const std::string card = file_text(evil / kEvilName / "README.md");
  expect_harmless(card, "the card");
  EXPECT_EQ(card.find("<b>"), card.find("\\<b\\>") == std::string::npos ? 0 : std::string::npos);
  expect_harmless(file_text(evil / kEvilName / "report.html"), "the page");
  fs::copy_file(dir_.path / "r.yml", evil / kEvilName / kEvilName);
  for (const char* verb : {"check ", "plan ", "calibrate "})
    lewis(verb + quoted(evil / kEvilName / kEvilName));
  harmless("check " + quoted(evil / kEvilName / kEvilName), 0);
  harmless("inspect " + quoted(evil / (kEvilName + "x")), 3);
  harmless("check " + quoted(evil / (kEvilName + "x")), 3);
}

TEST_F(Escapes, TextsOfRecipes) {
  const std::string name = Json(kEvil).dump();
  harmless("check " + recipe("merge_method: linear\nmodels: [{model: " + name + "}]\n"), 2);
  harmless("check " + recipe("merge_method: " + name + "\nmodels: []\n"), 2);
  harmless("check " + recipe(name + ": 1\nmerge_method: linear\n"), 2);
  harmless("check " + recipe("? " + name + "\n: 1\n? " + name + "\n: 2\n"), 2);
  harmless("check " + recipe("merge_method: linear\ndtype: " + name + "\nmodels: []\n"), 2);
}

TEST_F(Escapes, ResultsOfOthers) {
  const std::string file = (dir_.path / "results_1.json").string();
  std::ofstream(file) << Json{{"model_name", kEvil},
                              {"results",
                               {{kEvil,
                                 {{"alias", kEvil},
                                  {kEvil + ",none", 0.5},
                                  {"acc,none", 0.5},
                                  {"acc_stderr,none", 0.1}}}}}}
                             .dump();
  const lewis::Run run = lewis("eval --results " + file + " 2>&1");
  expect_harmless(run.out + run.err, "results");
  const lewis::Run json = lewis("eval --json --results " + file + " 2>&1");
  expect_harmless(json.out + json.err, "results");
}

}  // namespace
}  // namespace lewis
