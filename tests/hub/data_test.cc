// Data sets of the hub: which files come, from where, and what is said where none fits.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "hub/served_model.h"
#include "io/hub_cache.h"
#include "snapshot.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

class HubData : public testing::Test {
 protected:
  HubData() {
    ServedRepo& repo = hub_.server.datasets["owner/set"];
    repo.files["README.md"] = {"---\nlicense: mit\n---\n"};
    repo.files["main/train.jsonl"] = {some_bytes(3000, 1), true};
    repo.files["main/test.jsonl"] = {some_bytes(2000, 2), true};
    repo.files["script.py"] = {"import os"};
    repo.files["main/train.pkl"] = {some_bytes(100, 3)};
  }
  ServedRepo& repo() { return hub_.server.datasets["owner/set"]; }

  // What a caller wants: the files whose names begin so.
  static ChooseFiles beginning(const std::string& begin) {
    return [begin](const std::vector<std::string>& names, const std::string&) {
      std::vector<std::string> found;
      for (const std::string& name : names) {
        if (name.starts_with(begin)) found.push_back(name);
      }
      return found;
    };
  }
  std::optional<FetchedModel> fetch(const std::string& begin, const std::string& id = "owner/set") {
    return hub_.fetcher().fetch_data(id, begin, beginning(begin));
  }
  std::string failure(const std::string& begin, ExitCode code) {
    try {
      fetch(begin);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), code) << e.what();
      return e.what();
    }
    ADD_FAILURE() << "no error";
    return "";
  }
  std::vector<std::string> asked() const {
    std::vector<std::string> paths;
    for (const ServedRequest& r : hub_.server.requests()) paths.push_back(r.path);
    return paths;
  }
  fs::path entry() const { return hub_.options.cache / "datasets--owner--set"; }

  TestHub hub_;
};

TEST_F(HubData, OnlyWhatIsWantedComes) {
  const auto data = fetch("main/test");
  ASSERT_TRUE(data);
  EXPECT_EQ(data->folder, entry() / "snapshots" / std::string(40, 'a'));
  EXPECT_EQ(file_text(data->folder / "main/test.jsonl"), repo().files["main/test.jsonl"].content);
  EXPECT_FALSE(fs::exists(data->folder / "main/train.jsonl"));
  EXPECT_EQ(data->downloaded.files, 2u) << "and README.md";
  EXPECT_EQ(file_text(entry() / "refs/main"), std::string(40, 'a'));
  EXPECT_EQ(fs::read_symlink(data->folder / "main/test.jsonl").string().substr(0, 15),
            "../../../blobs/");
  // The other part comes into the same snapshot; what is there is not sent again.
  hub_.server.forget_requests();
  EXPECT_EQ(fetch("main/train.jsonl")->downloaded.files, 1u);
  EXPECT_EQ(fetch("main/train.jsonl")->downloaded.files, 0u);
  for (const std::string& path : asked())
    EXPECT_TRUE(path.starts_with("/api/datasets/owner/set/") ||
                path.starts_with("/datasets/owner/set/resolve/") || path.starts_with("/blobs/"))
        << path;
}

TEST_F(HubData, OfflineNothingIsAskedAndTheCacheServes) {
  hub_.options.offline = true;
  EXPECT_FALSE(fetch("main/test"));
  EXPECT_TRUE(hub_.server.requests().empty());
  hub_.options.offline = false;
  ASSERT_TRUE(fetch("main/test"));
  hub_.server.forget_requests();
  hub_.options.offline = true;
  EXPECT_TRUE(fetch("main/test"));
  EXPECT_TRUE(hub_.server.requests().empty());
  // A hub that does not answer: the cache's copy, with a note.
  hub_.options.offline = false;
  hub_.server.fault = [](const ServedRequest&) { return Fault{.status = 503}; };
  EXPECT_TRUE(fetch("main/test"));
  EXPECT_NE(hub_.notes.back().find("the cache's copy is used"), std::string::npos);
}

TEST_F(HubData, ARepositoryWithAProgramOnlyIsTakenFromItsConversion) {
  const std::string commit(40, 'b');
  repo().files.clear();
  repo().files["README.md"] = {"# A set"};
  repo().files["set.py"] = {"import os"};
  EXPECT_NE(failure("main/test", ExitCode::kInput).find("set.py"), std::string::npos);
  EXPECT_FALSE(fs::exists(entry() / "refs/main")) << "main has no data";
  repo().refs["refs/convert/parquet"] = commit;
  repo().others[commit]["main/test/0000.parquet"] = {some_bytes(4000, 9), true};
  const auto data = fetch("main/test");
  ASSERT_TRUE(data);
  EXPECT_EQ(data->folder, entry() / "snapshots" / commit);
  EXPECT_EQ(file_text(entry() / "refs/refs/convert/parquet"), commit);
  EXPECT_TRUE(fs::exists(data->folder / "main/test/0000.parquet"));
  EXPECT_NE(hub_.notes.back().find("conversion to Parquet"), std::string::npos);
}

TEST_F(HubData, RevisionsAndErrors) {
  repo().refs["v1"] = std::string(40, 'a');
  EXPECT_TRUE(fetch("main/test", "owner/set@v1"));
  EXPECT_EQ(file_text(entry() / "refs/v1"), std::string(40, 'a'));
  EXPECT_FALSE(fs::exists(entry() / "refs/main"));
  EXPECT_THROW(fetch("main/test", "owner/set@v2"), HubFailure);
  EXPECT_THROW(fetch("main/test", "owner/none"), HubFailure);
  EXPECT_FALSE(fetch("main/test", "../x"));
  repo().gated = true;
  const std::string gated = failure("main/train.jsonl", ExitCode::kUsage);
  EXPECT_NE(gated.find("/datasets/owner/set"), std::string::npos) << gated;
  repo().gated = false;
  hub_.server.fault = [](const ServedRequest& r) {
    return Fault{.flip_byte = r.path.starts_with("/blobs/")};
  };
  EXPECT_NE(failure("main/train.jsonl", ExitCode::kInput).find("SHA-256"), std::string::npos);
  EXPECT_FALSE(fs::exists(entry() / "snapshots" / std::string(40, 'a') / "main/train.jsonl"));
}

}  // namespace
}  // namespace lewis
