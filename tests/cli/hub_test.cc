// Models by their ids on the command line and in recipes, from a hub on this machine.
#include <gtest/gtest.h>

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
  std::ofstream(dir_.path / "r.yml")
      << "merge_method: linear\nmodels:\n  - model: " << fs::path(LEWIS_DEMO) / "models/base"
      << "\n    parameters: {weight: 1}\n";
  ASSERT_EQ(lewis("merge -q " + recipe() + " " + out()).code, 0);
  const ScopedEnv home("HOME", LEWIS_DEMO), writer("HF_TOKEN", "writer");
  const lewis::Run refused = lewis("push " + out() + " me/merge");
  EXPECT_EQ(refused.code, 2);
  EXPECT_NE(refused.err.find("a folder of this machine"), std::string::npos) << refused.err;
  EXPECT_TRUE(server_.requests().empty());
  EXPECT_EQ(lewis("push --force " + out() + " me/merge").code, 0);
}

TEST_F(HubCommands, AFolderComesBeforeAnId) {
  fs::create_directories(dir_.path / "tiny");
  fs::copy(fs::path(LEWIS_DEMO) / "models/base", dir_.path / "tiny/base");
  EXPECT_EQ(run_lewis(dir_.path, "inspect tiny/base", dir_.path).code, 0);
  EXPECT_TRUE(server_.requests().empty());
}

}  // namespace
}  // namespace lewis
