#include "hub/push.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/base64.h"
#include "base/error.h"
#include "hub/served_model.h"

namespace lewis {
namespace {

// Files on disk, and a hub that takes them.
class PushTest : public testing::Test {
 protected:
  PushTest() {
    hub_.server.models.clear();
    hub_.options.token = "writer";
    add("README.md", "# A merge\n");
    add("config.json", "{}");
    add("empty.txt", "");
    add("model-00001-of-00002.safetensors", some_bytes(100'000, 1));
    add("model-00002-of-00002.safetensors", some_bytes(40'000, 2));
    add("tokenizer.json", some_bytes(60'000, 3));
  }

  void add(const std::string& name, const std::string& content) {
    const auto path = hub_.dir.path / name;
    std::ofstream(path, std::ios::binary) << content;
    files_.push_back({name, path, content.size(), large_name(content)});
    contents_[name] = content;
  }
  Pushed push(const std::string& id = "me/merge", bool is_private = false) {
    const HubClient client(hub_.options, hub_.stop, [](const std::string&) {});
    return push_files(client, *parse_repo_id(id), files_, {is_private, "a merge"},
                      [this](const Progress& p) { hub_.last = p; });
  }
  void expect_there() const {
    const auto& files = hub_.server.models.at("me/merge").files;
    ASSERT_EQ(files.size(), contents_.size());
    for (const auto& [name, content] : contents_)
      EXPECT_TRUE(files.at(name).content == content) << name;
  }
  Error error_of(const std::string& id = "me/merge") {
    try {
      push(id);
    } catch (const Error& e) {
      return e;
    }
    return Error(ExitCode::kDone, "no error");
  }

  TestHub hub_;
  std::vector<FileToPush> files_;
  std::map<std::string, std::string> contents_;
};

TEST_F(PushTest, WhatIsPushedCanBePulled) {
  const Pushed pushed = push();
  expect_there();
  EXPECT_EQ(pushed.commit, std::string(40, 'c'));
  EXPECT_EQ(pushed.url, hub_.server.address() + "/me/merge");
  EXPECT_EQ(hub_.last.done, 200'000u);
  EXPECT_EQ(hub_.last.total, 200'000u);
  for (const ServedRequest& r : hub_.server.requests())
    EXPECT_EQ(r.headers.contains("authorization"), !r.at_storage) << r.path;
}

TEST_F(PushTest, InParts) {
  hub_.server.part_bytes = 30'000;
  push();
  expect_there();
  size_t puts = 0;
  for (const ServedRequest& r : hub_.server.requests()) puts += r.method == "PUT";
  EXPECT_EQ(puts, 4u + 2 + 2);
}

TEST_F(PushTest, WhatIsThereIsNotSentAgain) {
  push();
  hub_.server.forget_requests();
  EXPECT_LT(push().bytes, 1000u);
  for (const ServedRequest& r : hub_.server.requests()) EXPECT_NE(r.method, "PUT");
  expect_there();
}

TEST_F(PushTest, BranchesAndPrivateRepositories) {
  push("me/merge@v2", true);
  EXPECT_TRUE(hub_.server.models.at("me/merge").refs.contains("v2"));
  EXPECT_EQ(hub_.server.models.at("me/merge").token, "writer");
}

// Every request of a push fails once, in every way.
TEST_F(PushTest, TemporaryFaultsAreTriedAgain) {
  for (const Fault& fault : {Fault{.status = 503}, Fault{.close = true},
                             Fault{.status = 429, .headers = {{"Retry-After", "0"}}}}) {
    for (const size_t parts : {0, 30'000}) {
      hub_.server.models.clear();
      hub_.server.stored.clear();
      hub_.server.forget_requests();
      hub_.server.part_bytes = parts;
      hub_.server.fault = [&](const ServedRequest& r) { return r.number == 0 ? fault : Fault{}; };
      push();
      expect_there();
    }
  }
}

// Until the commit nothing changes for readers, and the next run goes on.
TEST_F(PushTest, LastingFaultsLeaveNoCommit) {
  for (const char* at :
       {"/api/repos/create", "/preupload/", "/batch", "/upload/", "/verify/", "/commit/"}) {
    hub_.server.models.clear();
    hub_.server.stored.clear();
    hub_.server.fault = [&](const ServedRequest& r) {
      return r.path.find(at) != std::string::npos ? Fault{.status = 500} : Fault{};
    };
    EXPECT_EQ(error_of().code(), ExitCode::kResource) << at;
    for (const auto& [id, repo] : hub_.server.models) EXPECT_TRUE(repo.files.empty()) << at;
    hub_.server.fault = nullptr;
    push();
    expect_there();
  }
}

TEST_F(PushTest, AnswersThatAreNone) {
  for (const char* at : {"/preupload/", "/batch", "/commit/"}) {
    for (const char* body : {"", "x", "[]", "{}", R"({"files": 1, "objects": [1]})"}) {
      hub_.server.models.clear();
      hub_.server.stored.clear();
      hub_.server.fault = [&](const ServedRequest& r) {
        return r.path.find(at) != std::string::npos ? Fault{.body = body} : Fault{};
      };
      EXPECT_NE(error_of().code(), ExitCode::kDone) << at << " " << body;
    }
  }
}

TEST_F(PushTest, WhoMayNotWriteIsTold) {
  hub_.options.token = "reader";
  hub_.options.token_source = "HF_TOKEN";
  const Error e = error_of();
  EXPECT_EQ(e.code(), ExitCode::kUsage);
  EXPECT_NE(std::string(e.what()).find("HF_TOKEN"), std::string::npos) << e.what();
  EXPECT_EQ(std::string(e.what()).find("reader"), std::string::npos) << e.what();
  hub_.options.token = "";
  EXPECT_EQ(error_of().code(), ExitCode::kUsage);
  EXPECT_TRUE(hub_.server.models.empty());
}

TEST_F(PushTest, AnInterruptEndsIt) {
  hub_.stop = [] { return true; };
  EXPECT_EQ(error_of().code(), ExitCode::kInterrupted);
}

TEST(Base64, ThereAndBack) {
  EXPECT_EQ(base64_encoded(""), "");
  EXPECT_EQ(base64_encoded("f"), "Zg==");
  EXPECT_EQ(base64_encoded("fo"), "Zm8=");
  EXPECT_EQ(base64_encoded("foobar"), "Zm9vYmFy");
  for (size_t size = 0; size < 100; ++size)
    EXPECT_EQ(base64_decoded(base64_encoded(some_bytes(size, size))), some_bytes(size, size));
}

}  // namespace
}  // namespace lewis
