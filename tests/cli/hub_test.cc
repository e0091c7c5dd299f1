// Models by their ids on the command line and in recipes, from a hub on this machine.
#include <gtest/gtest.h>

#include <atomic>

#include "hub/hub_server.h"
#include "run_lewis.h"
#include "scoped_env.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

class HubCommands : public LewisTest {
 protected:
  HubCommands() {
    for (const char* name : {"base", "math", "code"}) {
      ServedRepo& repo = server_.models[std::string("tiny/") + name];
      for (const auto& entry : fs::directory_iterator(fs::path(LEWIS_DEMO) / "models" / name)) {
        const std::string file = entry.path().filename().string();
        repo.files[file] = {file_text(entry.path()), file.ends_with(".safetensors")};
      }
    }
  }

  void write_recipe() {
    std::ofstream(dir_.path / "r.yml")
        << "merge_method: linear\nbase_model: tiny/base\nmodels:\n"
           "  - {model: tiny/math, parameters: {weight: 0.5}}\n"
           "  - {model: tiny/code@main, parameters: {weight: 0.5}}\n";
  }
  std::string recipe() const { return (dir_.path / "r.yml").string(); }
  fs::path cache() const { return dir_.path / "hub"; }

  HubServer server_;
  ScopedEnv endpoint_{"HF_ENDPOINT", server_.address()}, cache_{"HF_HUB_CACHE", cache().string()};
  ScopedEnv online_{"HF_HUB_OFFLINE", "0"}, token_{"HF_TOKEN", "secret"};
};

TEST_F(HubCommands, ARecipeWithIdsMergesAsOneWithFolders) {
  write_recipe();
  const lewis::Run merged = lewis("merge " + recipe() + " " + out());
  ASSERT_EQ(merged.code, 0) << merged.err;
  std::ofstream(dir_.path / "folders.yml")
      << "merge_method: linear\nbase_model: demo/models/base\nmodels:\n"
         "  - {model: demo/models/math, parameters: {weight: 0.5}}\n"
         "  - {model: demo/models/code, parameters: {weight: 0.5}}\n";
  const std::string other = (dir_.path / "other").string();
  ASSERT_EQ(lewis("merge -q " + (dir_.path / "folders.yml").string() + " " + other).code, 0);
  EXPECT_TRUE(file_text(dir_.path / "out/model.safetensors") ==
              file_text(dir_.path / "other/model.safetensors"));
  EXPECT_EQ(lewis("inspect tiny/base").code, 0);
  EXPECT_EQ(lewis("diff tiny/base tiny/math").code, 0);
  server_.forget_requests();
  const ScopedEnv offline("HF_HUB_OFFLINE", "1");
  EXPECT_EQ(lewis("check " + recipe()).code, 0);
  EXPECT_TRUE(server_.requests().empty());
}

TEST_F(HubCommands, PullTellsWhatItDid) {
  const lewis::Run first = lewis("pull tiny/base tiny/math@main");
  EXPECT_EQ(first.code, 0) << first.err;
  EXPECT_NE(first.out.find("tiny/base: "), std::string::npos) << first.out;
  EXPECT_NE(first.out.find("downloaded"), std::string::npos) << first.out;
  const Json again = json("pull tiny/base");
  EXPECT_EQ(again["models"][0]["files"], 0);
  EXPECT_EQ(again["models"][0]["commit"], std::string(40, 'a'));
  write_recipe();
  EXPECT_EQ(json("pull " + recipe())["models"].size(), 3u);
}

TEST_F(HubCommands, ErrorsNameTheLineAndNeverTheToken) {
  write_recipe();
  server_.models.erase("tiny/code");
  const lewis::Run run = lewis("merge " + recipe() + " " + out());
  EXPECT_EQ(run.code, 2);
  EXPECT_NE(run.err.find("r.yml:5: tiny/code"), std::string::npos) << run.err;
  EXPECT_NE(run.err.find("HF_TOKEN"), std::string::npos) << run.err;
  EXPECT_EQ(run.err.find("secret"), std::string::npos) << run.err;
  EXPECT_FALSE(fs::exists(out()));
  for (const char* wrong : {"tiny/none", "../x", "a/b/c", "tiny/base@none"})
    EXPECT_EQ(lewis(std::string("pull ") + wrong).code, 2) << wrong;
}

TEST_F(HubCommands, WithoutANetworkANameIsOnlyAName) {
  const ScopedEnv nobody("HF_ENDPOINT", "http://127.0.0.1:1");
  write_recipe();
  const lewis::Run run = lewis("check " + recipe());
  EXPECT_EQ(run.code, 2);
  EXPECT_NE(run.err.find("no such folder"), std::string::npos) << run.err;
  EXPECT_NE(run.err.find("cannot be asked"), std::string::npos) << run.err;
  const ScopedEnv offline("HF_HUB_OFFLINE", "1");
  const lewis::Run silent = lewis("check " + recipe());
  EXPECT_EQ(silent.code, 2);
  EXPECT_NE(silent.err.find("no such folder"), std::string::npos) << silent.err;
}

TEST_F(HubCommands, PushThenPull) {
  write_recipe();
  // Where the model's texts name no folder of this machine.
  ASSERT_EQ(run_lewis(dir_.path, "merge -q r.yml out", dir_.path).code, 0);
  const ScopedEnv writer("HF_TOKEN", "writer");
  const lewis::Run pushed = run_lewis(dir_.path, "push out me/merge --private", dir_.path);
  ASSERT_EQ(pushed.code, 0) << pushed.err;
  EXPECT_NE(pushed.out.find("/me/merge: "), std::string::npos) << pushed.out;
  EXPECT_EQ(lewis("pull me/merge -q").code, 0);
  const std::string commit(40, 'c');
  EXPECT_TRUE(file_text(cache() / "models--me--merge/snapshots" / commit / "model.safetensors") ==
              file_text(dir_.path / "out/model.safetensors"));
  std::ofstream(dir_.path / "out/config.json", std::ios::app) << " ";
  server_.forget_requests();
  EXPECT_EQ(run_lewis(dir_.path, "push out me/merge", dir_.path).code, 5);
  EXPECT_EQ(run_lewis(dir_.path, "push out merge", dir_.path).code, 2);
  EXPECT_TRUE(server_.requests().empty());
}

TEST_F(HubCommands, FoldersOfThisMachineAreNotPushed) {
  // What lewis writes names none; a text of the model's own may.
  const fs::path model = dir_.path / "model";
  fs::copy(fs::path(LEWIS_DEMO) / "models/base", model);
  Json config = read_json(model / "config.json");
  config["comment"] = "see " LEWIS_DEMO "/models";
  fs::remove(model / "config.json");
  std::ofstream(model / "config.json") << config.dump();
  std::ofstream(dir_.path / "r.yml")
      << "merge_method: linear\nmodels:\n  - {model: " << model << ", parameters: {weight: 1}}\n";
  ASSERT_EQ(lewis("merge -q " + recipe() + " " + out()).code, 0);
  const ScopedEnv home("HOME", LEWIS_DEMO), writer("HF_TOKEN", "writer");
  const lewis::Run refused = lewis("push " + out() + " me/merge");
  EXPECT_EQ(refused.code, 2);
  EXPECT_NE(refused.err.find("a folder of this machine"), std::string::npos) << refused.err;
  EXPECT_TRUE(server_.requests().empty());
  EXPECT_EQ(lewis("push --force " + out() + " me/merge").code, 0);
}

TEST_F(HubCommands, StreamedModelsAreNotStored) {
  write_recipe();
  const lewis::Run dry = lewis("merge --stream --dry-run " + recipe() + " " + out());
  ASSERT_EQ(dry.code, 0) << dry.err;
  EXPECT_NE(dry.out.find("to come from the hub"), std::string::npos) << dry.out;
  EXPECT_EQ(lewis("check --stream -q " + recipe()).code, 0);
  const lewis::Run merged = lewis("merge --stream " + recipe() + " " + out());
  ASSERT_EQ(merged.code, 0) << merged.err;
  for (const auto& entry : fs::recursive_directory_iterator(cache()))
    EXPECT_FALSE(entry.path().filename().string().ends_with(".safetensors")) << entry.path();
  const std::string other = (dir_.path / "other").string();
  ASSERT_EQ(lewis("merge -q " + recipe() + " " + other).code, 0);  // downloads what is missing
  EXPECT_TRUE(file_text(dir_.path / "out/model.safetensors") ==
              file_text(dir_.path / "other/model.safetensors"));
  EXPECT_EQ(lewis("merge --max-disk 1B " + recipe() + " " + other).code, 2);
  EXPECT_EQ(lewis("merge --stream --max-disk x " + recipe() + " " + other).code, 2);
}

TEST_F(HubCommands, AStreamThatIsKilledIsResumed) {
  write_recipe();
  server_.bytes_per_second = 500'000;  // of some 10 MB
  const std::string command = "merge -q --stream --out-shard-size 300K " + recipe() + " " + out();
  const lewis::Run killed =
      run_lewis(dir_.path, command + " & PID=$!; sleep 2; kill -9 $PID; wait $PID", LEWIS_SOURCE);
  EXPECT_NE(killed.code, 0);
  EXPECT_TRUE(fs::exists(out() + ".partial"));
  server_.bytes_per_second = 0;
  const lewis::Run resumed = lewis(command + " --resume");
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  const std::string other = (dir_.path / "other").string();
  ASSERT_EQ(lewis("merge -q --out-shard-size 300K " + recipe() + " " + other).code, 0);
  for (const auto& entry : fs::directory_iterator(other)) {
    if (entry.path().extension() != ".safetensors") continue;
    EXPECT_TRUE(file_text(entry.path()) == file_text(dir_.path / "out" / entry.path().filename()));
  }
}

// The files of a data set's splits, as two people have them: by folders, and by README.md.
ServedRepo data_set(bool with_readme) {
  ServedRepo repo;
  const fs::path data = fs::path(LEWIS_DEMO) / "data";
  const std::string folder = with_readme ? "files/" : "main/";
  repo.files[folder + "train.jsonl"] = {file_text(data / "math_train.jsonl"), true};
  repo.files[folder + "test.jsonl"] = {file_text(data / "math_test.jsonl"), true};
  repo.files["socratic/train.jsonl"] = {"{}\n"};
  repo.files["README.md"] = {
      with_readme
          ? "---\nconfigs:\n- config_name: main\n  data_files:\n  - {split: train, path: "
            "files/train.*}\n  - {split: test, path: files/test.*}\n- config_name: other\n  "
            "data_files: socratic/*\n---\n"
          : "# A data set"};
  repo.files["gsm8k.py"] = {"import os"};
  return repo;
}

TEST_F(HubCommands, DataOfRecipesComeFromTheHub) {
  server_.datasets["tiny/set"] = data_set(true);
  const auto write = [&](const std::string& part) {
    std::ofstream(dir_.path / "r.yml")
        << "merge_method: ties\nbase_model: tiny/base\nmodels:\n- {model: tiny/math, parameters: "
           "{weight: 1, density: 0.5}}\nlewis:\n  calibration:\n  - {model: tiny/math, data: "
           "tiny/set, format: gsm8k, samples: 2"
        << part << "}\n";
  };
  write(", config: main, split: train");
  const lewis::Run merged = lewis("merge -q " + recipe() + " " + out());
  ASSERT_EQ(merged.code, 0) << merged.err;
  const fs::path snapshot = cache() / "datasets--tiny--set/snapshots" / std::string(40, 'a');
  EXPECT_TRUE(fs::exists(snapshot / "files/train.jsonl"));
  EXPECT_FALSE(fs::exists(snapshot / "files/test.jsonl")) << "nobody needs it";
  EXPECT_NE(file_text(out() + "/mergekit_config.yml").find("tiny/set"), std::string::npos);
  server_.forget_requests();
  {
    const ScopedEnv offline("HF_HUB_OFFLINE", "1");
    EXPECT_EQ(lewis("calibrate " + recipe()).code, 0);
    EXPECT_TRUE(server_.requests().empty());
  }
  for (const auto& [part, said] :
       std::map<std::string, std::string>{{"", "main, other"},
                                          {", config: none", "main, other"},
                                          {", config: main, split: none", "test, train"}}) {
    write(part);
    const lewis::Run wrong = lewis("check " + recipe());
    EXPECT_EQ(wrong.code, 3) << part << wrong.err;
    EXPECT_NE(wrong.err.find("r.yml:7: tiny/set"), std::string::npos) << wrong.err;
    EXPECT_NE(wrong.err.find(said), std::string::npos) << wrong.err;
  }
  EXPECT_EQ(
      lewis("calibrate -q tiny/base --format gsm8k --samples 2 --data tiny/set#main/test").code, 0);
  EXPECT_TRUE(fs::exists(snapshot / "files/test.jsonl"));
}

TEST_F(HubCommands, KnownTasksFetchTheirData) {
  server_.datasets["openai/gsm8k"] = data_set(false);
  const std::string eval = "eval -q tiny/base --task gsm8k --limit 1 --max-new-tokens 2 --shots ";
  {
    const ScopedEnv offline("HF_HUB_OFFLINE", "1");
    EXPECT_NE(lewis("eval -q demo/models/base --task gsm8k").code, 0);
    EXPECT_TRUE(server_.requests().empty());
  }
  const lewis::Run scored = lewis(eval + "0");
  EXPECT_EQ(scored.code, 0) << scored.err;
  const fs::path snapshot = cache() / "datasets--openai--gsm8k/snapshots" / std::string(40, 'a');
  EXPECT_TRUE(fs::exists(snapshot / "main/test.jsonl"));
  EXPECT_FALSE(fs::exists(snapshot / "main/train.jsonl"));
  EXPECT_EQ(lewis(eval + "1").code, 0) << "its examples";
  EXPECT_TRUE(fs::exists(snapshot / "main/train.jsonl"));
}

TEST_F(HubCommands, PullTakesDataSets) {
  server_.datasets["tiny/set"] = data_set(true);
  EXPECT_EQ(lewis("pull --dataset tiny/set").code, 3) << "which config?";
  const Json one = json("pull --dataset tiny/set --config main --split test");
  EXPECT_EQ(one["models"][0]["files"], 1) << "README.md came before";
  EXPECT_EQ(json("pull --dataset tiny/set --config main")["models"][0]["files"], 1);
  for (const char* wrong :
       {"pull", "pull tiny/base --split test", "pull --dataset ../x", "pull --dataset tiny/none"})
    EXPECT_EQ(lewis(wrong).code, 2) << wrong;
}

TEST_F(HubCommands, AFolderComesBeforeAnId) {
  fs::create_directories(dir_.path / "tiny");
  fs::copy(fs::path(LEWIS_DEMO) / "models/base", dir_.path / "tiny/base");
  EXPECT_EQ(run_lewis(dir_.path, "inspect tiny/base", dir_.path).code, 0);
  EXPECT_TRUE(server_.requests().empty());
}

}  // namespace
}  // namespace lewis
