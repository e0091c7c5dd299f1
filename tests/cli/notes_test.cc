// Notes on recipes, models and texts: every verb that meets a thing tells it, once.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <span>
#include <sstream>
#include <vector>

#include "io/safetensors.h"
#include "run_lewis.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

constexpr const char* kJoined = "stands before the first words of the user";
// Gemma 2's way.
constexpr const char* kForbidsSystem =
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}";

std::vector<std::string> notes_in(const std::string& err) {
  constexpr std::string_view kMark = "lewis: note: ";
  std::vector<std::string> notes;
  std::istringstream lines(err);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(kMark)) notes.push_back(line.substr(kMark.size()));
  }
  return notes;
}

size_t count_of(const std::vector<std::string>& notes, std::string_view part) {
  return static_cast<size_t>(std::ranges::count_if(
      notes, [&](const std::string& n) { return n.find(part) != std::string::npos; }));
}

// The model's file once more, with a head that has the values of the embeddings.
void store_tied_head(const fs::path& path) {
  const SafetensorsFile file(path);
  std::vector<TensorInfo> tensors;
  std::vector<std::vector<std::byte>> data;
  for (const auto& entry : file.entries()) {
    data.emplace_back(byte_size(entry.info));
    file.read(entry, 0, data.back());
    tensors.push_back(entry.info);
    if (entry.info.name != "model.embed_tokens.weight") continue;
    data.push_back(data.back());
    tensors.push_back(entry.info);
    tensors.back().name = "lm_head.weight";
  }
  write_safetensors(path.string() + ".new", tensors,
                    std::vector<std::span<const std::byte>>(data.begin(), data.end()), {});
  fs::rename(path.string() + ".new", path);
}

// The demo's models with chat templates, and conversations with system messages.
class Notes : public LewisTest {
 protected:
  void SetUp() override {
    for (const char* model : {"base", "math"}) {
      const fs::path folder = dir_.path / model;
      fs::copy(fs::path(LEWIS_DEMO) / "models" / model, folder, fs::copy_options::recursive);
      fs::remove(folder / "chat_template.jinja");
      std::ofstream(folder / "chat_template.jinja") << kForbidsSystem;
    }
    std::ofstream(dir_.path / "base/weights_of_old.bin") << "old";
    store_tied_head(dir_.path / "math/model.safetensors");
    write_chat("chat.jsonl");
  }

  void write_chat(const std::string& name) const {
    std::ifstream in(fs::path(LEWIS_DEMO) / "data/math_train.jsonl");
    std::ofstream out(dir_.path / name);
    std::string line;
    for (int i = 0; i < 24 && std::getline(in, line); ++i) {
      const Json row = parse_json(line, "row");
      Json messages = Json::array();
      messages.push_back({{"role", "system"}, {"content", "Be brief."}});
      messages.push_back({{"role", "user"}, {"content", row["question"]}});
      messages.push_back({{"role", "assistant"}, {"content", row["answer"]}});
      out << Json{{"messages", messages}}.dump() << "\n";
    }
  }

  // A guided recipe; `parameters` of the whole merge and `more` keys at its top.
  std::string recipe(const std::string& parameters = "{lambda: 1}", const std::string& more = "",
                     const std::string& data = "chat.jsonl") const {
    const std::string file = (dir_.path / "r.yml").string();
    std::ofstream(file) << "merge_method: ties\nbase_model: base\nmodels:\n"
                           "- {model: math, parameters: {weight: 1, density: 0.5}}\n"
                           "parameters: "
                        << parameters << "\ndtype: bfloat16\n"
                        << more << "lewis:\n  calibration:\n  - {model: math, data: " << data
                        << ", format: chat, samples: 4}\n";
    return file;
  }

  std::vector<std::string> notes_of(const std::string& arguments) {
    const auto run = lewis(arguments);
    EXPECT_EQ(run.code, 0) << arguments << "\n" << run.err;
    return notes_in(run.err);
  }
};

TEST_F(Notes, OfTheMergeAreToldByItsDryRunAndFromTheCache) {
  const std::vector<std::string> merge = notes_of("merge " + recipe() + " " + out());
  EXPECT_EQ(count_of(merge, kJoined), 1u);
  EXPECT_EQ(count_of(merge, "not copied into the merge: weights_of_old.bin"), 1u);
  EXPECT_EQ(count_of(merge, "lm_head.weight is stored with the values of"), 1u);
  EXPECT_EQ(std::set(merge.begin(), merge.end()).size(), merge.size()) << "told twice";
  auto sorted = [](std::vector<std::string> v) {
    std::ranges::sort(v);
    return v;
  };
  // What calibration finds is known when it has run, and a dry run does not calibrate.
  std::vector<std::string> before = merge;
  std::erase_if(before, [](const std::string& note) {
    return note.find("projection's importance") != std::string::npos;
  });
  EXPECT_EQ(sorted(notes_of("merge " + recipe() + " " + out() + "2 --dry-run")), sorted(before));
  EXPECT_EQ(sorted(notes_of("merge " + recipe() + " " + out() + " --force")), sorted(merge));
  // The cache knows the text by its content; the note names the file that is read now.
  fs::rename(dir_.path / "chat.jsonl", dir_.path / "moved.jsonl");
  const auto moved =
      notes_of("merge " + recipe("{lambda: 1}", "", "moved.jsonl") + " " + out() + " --force");
  EXPECT_EQ(count_of(moved, "moved.jsonl: 24 conversations"), 1u);
  EXPECT_EQ(count_of(moved, "chat.jsonl: 24 conversations"), 0u);
}

TEST_F(Notes, AreInTheResultsToo) {
  const Json forecast = json("merge " + recipe() + " " + out() + " --dry-run");
  const Json merge = json("merge " + recipe() + " " + out());
  const Json plan = json("plan " + recipe());
  for (const Json& result : {forecast, merge, plan}) {
    const auto lines = result["warnings"].get<std::vector<std::string>>();
    EXPECT_EQ(count_of(lines, kJoined), 1u) << result.dump();
    EXPECT_EQ(count_of(lines, "lm_head.weight"), 1u) << result.dump();
  }
}

TEST_F(Notes, AreToldByPlanTuneCalibrateAndEval) {
  for (const int again : {0, 1}) {  // then from the cache and the journal
    const auto plan = notes_of("plan " + recipe());
    EXPECT_EQ(count_of(plan, kJoined), 1u) << again;
    EXPECT_EQ(count_of(plan, "lm_head.weight"), 1u) << again;
    const auto calibrate = notes_of("calibrate " + recipe());
    EXPECT_EQ(count_of(calibrate, kJoined), 1u) << again;
    EXPECT_EQ(count_of(calibrate, "lm_head.weight"), 1u) << again;
    const auto eval = notes_of("eval " + recipe() + " --task loss --data " +
                               (dir_.path / "chat.jsonl").string() + " --format chat --limit 2");
    EXPECT_EQ(count_of(eval, kJoined), 1u) << again;
    EXPECT_EQ(count_of(eval, "lm_head.weight"), 1u) << again;
    const auto tune = notes_of("tune " + recipe("{lambda: {search: [0.5, 1]}}") + " -o " +
                               (dir_.path / "tuned.yml").string() +
                               " --evaluations 2 --samples 12 --objective mean");
    EXPECT_EQ(count_of(tune, kJoined), 1u) << again;
    EXPECT_EQ(count_of(tune, "lm_head.weight"), 1u) << again;
  }
}

TEST_F(Notes, OfAModelAreToldByInspect) {
  EXPECT_EQ(count_of(notes_of("inspect " + (dir_.path / "math").string()), "lm_head.weight"), 1u);
  const auto base = notes_of("inspect " + (dir_.path / "base").string());
  EXPECT_EQ(count_of(base, "not copied into the merge: weights_of_old.bin"), 1u);
  EXPECT_EQ(base.size(), 1u);
}

// Every verb that reads a recipe passes over what mergekit passes over, at any place.
TEST_F(Notes, LenientHoldsForEveryVerbAndSection) {
  const std::string more =
      "colour: red\ntokenizer:\n  source: base\n  shade: dark\n"
      "  tokens:\n    '<|endoftext|>':\n      tint: 1\n      source: {kind: model_token, model: "
      "base, token: '<|endoftext|>', gloss: 2}\n";
  const std::string data = (dir_.path / "chat.jsonl").string();
  const std::string task = " --task loss --data " + data + " --format chat --limit 1";
  const std::string tuned = (dir_.path / "tuned.yml").string();
  const std::string r = recipe("{lambda: 1}", more), math = (dir_.path / "math").string();
  const std::vector<std::string> verbs = {
      "merge " + r + " " + out() + " --dry-run",
      "merge " + r + " " + out() + " --explain model.norm.weight",
      "check " + r,
      "plan " + r,
      "calibrate " + r,
      "calibrate " + r + " --data " + data + " --format chat --samples 2 -o " + out() + ".st",
      "eval " + r + task,
      "eval " + math + " --layers " + r,
      "eval " + math + " --kl-to " + r + " --task kl --data " + data + " --format chat --limit 1"};
  const auto try_all = [&](const std::string& verb) {
    const auto strict = lewis(verb);
    EXPECT_EQ(strict.code, 2) << verb << "\n" << strict.err;
    EXPECT_NE(strict.err.find("unknown key"), std::string::npos) << strict.err;
    const auto lenient = lewis(verb + " --lenient");
    EXPECT_EQ(lenient.code, 0) << verb << "\n" << lenient.err;
    for (const char* key : {"colour", "shade", "tint", "gloss"}) {
      const std::string line = "'" + std::string(key) + "' has no meaning";
      const std::string all = lenient.err + lenient.out;  // check prints to standard output
      const size_t first = all.find(line);
      EXPECT_NE(first, std::string::npos) << verb << ": " << key << "\n" << all;
      const bool twice =
          first != std::string::npos && all.find(line, first + 1) != std::string::npos;
      EXPECT_FALSE(twice) << verb << ": " << key << " is told twice";
    }
  };
  for (const std::string& verb : verbs) try_all(verb);
  recipe("{lambda: {search: [0.5, 1]}}", more);
  try_all("tune " + r + " -o " + tuned + " --evaluations 1 --samples 12 --objective mean");
}

// The page about a merge reads the recipe that the merge has read.
TEST_F(Notes, AReportReadsWhatALenientMergeHasWritten) {
  const std::string r = recipe("{lambda: 1}", "colour: red\n");
  ASSERT_EQ(lewis("merge " + r + " " + out() + " --lenient").code, 0);
  const Json report = json("report " + out() + " --recipe " + r);
  EXPECT_EQ(report["missing"].dump().find("unknown key"), std::string::npos)
      << report["missing"].dump();
}

// Without a cache nothing is kept, and no name of a file is printed.
TEST_F(Notes, CalibrateSaysThatNothingIsKept) {
  const auto run = lewis("calibrate " + recipe() + " --cache ''");
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_NE(run.out.find("-> nowhere: the cache is off"), std::string::npos) << run.out;
}

// What cannot be copied into the merge is refused before any text is read: no other fault is told.
TEST_F(Notes, BadCompanionsAreRefusedBeforeAnyWork) {
  for (const std::string name :
       {"tokenizer.json", "preprocessor_config.json", "generation_config.json",
        "special_tokens_map.json", "additional_chat_templates/tool.jinja"}) {
    const fs::path base = dir_.path / "base", file = base / name, saved = dir_.path / "saved";
    const bool was_there = fs::exists(file);
    if (was_there) fs::rename(file, saved);
    fs::create_directories(file.parent_path());
    std::ofstream(dir_.path / "private") << "secret";
    fs::create_symlink(dir_.path / "private", file);
    std::ofstream(dir_.path / "broken.jsonl") << "no conversation\n";
    const std::string r = recipe("{lambda: 1}", "", "broken.jsonl");
    for (const std::string& verb :
         {"merge " + r + " " + out(), "merge " + r + " " + out() + " --dry-run", "plan " + r,
          "check " + r}) {
      const auto run = lewis(verb);
      EXPECT_EQ(run.code, 3) << verb;
      EXPECT_NE(run.err.find(name), std::string::npos) << verb << "\n" << run.err;
      EXPECT_EQ(run.err.find("broken.jsonl"), std::string::npos) << run.err;
    }
    EXPECT_FALSE(fs::exists(out()));
    fs::remove(file);
    if (was_there) fs::rename(saved, file);
  }
}

// Lenient is about what mergekit ignores: what only lewis reads was meant.
TEST_F(Notes, LenientDoesNotHoldForTheSectionLewis) {
  const std::string r = recipe();
  std::ofstream(r, std::ios::app) << "  colour: red\n";
  for (const std::string verb : {"plan ", "calibrate "}) {
    const auto run = lewis(verb + r + " --lenient");
    EXPECT_EQ(run.code, 2) << run.err;
  }
}

}  // namespace
}  // namespace lewis
