#include "hub/fetch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "base/error.h"
#include "base/hash.h"
#include "hub/needed_files.h"
#include "hub/served_model.h"
#include "io/hub_cache.h"
#include "scoped_env.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

std::string content_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<std::string> files_in(const fs::path& folder) {
  std::vector<std::string> names;
  if (!fs::exists(folder)) return names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_directory() || entry.is_symlink())
      names.push_back(entry.path().lexically_relative(folder).string());
  }
  std::ranges::sort(names);
  return names;
}

// Every file of the snapshot is a relative link to a blob with the server's bytes, and no more.
void expect_whole(const TestHub& hub) {
  EXPECT_EQ(files_in(hub.snapshot()), needed_names());
  std::set<std::string> blobs;
  for (const std::string& name : needed_names()) {
    const ServedFile& file = hub.server.models.at("owner/name").files.at(name);
    const fs::path target = fs::read_symlink(hub.snapshot() / name);
    EXPECT_TRUE(target.is_relative()) << name;
    EXPECT_EQ(target.filename(), file.large ? large_name(file.content) : small_name(file.content));
    EXPECT_TRUE(content_of(hub.snapshot() / name) == file.content) << name;
    blobs.insert(target.filename());
  }
  const auto there = files_in(hub.entry() / "blobs");
  EXPECT_EQ(std::set(there.begin(), there.end()), blobs);
  EXPECT_EQ(content_of(hub.entry() / "refs/main"), hub.server.models.at("owner/name").commit);
}

Error error_of(TestHub& hub, const std::string& id = "owner/name") {
  try {
    hub.fetch(id);
  } catch (const Error& e) {
    return e;
  }
  return Error(ExitCode::kDone, "no error");
}

// After an error the cache has no snapshot's file with other bytes, and no branch leads to a part.
void expect_nothing_half_made(const TestHub& hub) {
  EXPECT_FALSE(fs::exists(hub.entry() / "refs/main"));
  for (const std::string& name : files_in(hub.entry() / "blobs")) {
    if (name.ends_with(".incomplete")) continue;
    const std::string bytes = content_of(hub.entry() / "blobs" / name);
    EXPECT_EQ(name, name.size() == 64 ? large_name(bytes) : small_name(bytes));
  }
}

TEST(Fetch, WritesTheCacheAsHuggingFacesToolsDo) {
  TestHub hub;
  const auto model = hub.fetch();
  ASSERT_TRUE(model);
  EXPECT_EQ(model->folder, hub.snapshot());
  EXPECT_EQ(model->downloaded.files, needed_names().size());
  expect_whole(hub);
  EXPECT_TRUE(fs::exists(hub.entry() / ".no_exist" / model->commit / "generation_config.json"));
  EXPECT_FALSE(fs::exists(hub.entry() / ".no_exist" / model->commit / "config.json"));
  EXPECT_TRUE(fs::is_directory(hub.options.cache / ".locks/models--owner--name"));
  EXPECT_EQ(hub.last.what, "download owner/name");
  EXPECT_EQ(hub.last.done, hub.last.total);
  const ScopedEnv cache("HF_HUB_CACHE", hub.options.cache.string());
  EXPECT_EQ(find_in_hub_cache("owner/name"), model->folder);
  EXPECT_EQ(hub_id_of(model->folder), "owner/name");
}

TEST(Fetch, AsksOnlyWhatItMust) {
  TestHub hub;
  hub.fetch();
  const std::string commit = hub.server.models["owner/name"].commit;
  hub.server.forget_requests();
  const auto branch = hub.fetch();  // one question: which commit is it now?
  EXPECT_EQ(hub.server.requests().size(), 1u);
  EXPECT_EQ(branch->downloaded.files, 0u);
  hub.server.forget_requests();
  EXPECT_EQ(hub.fetch("owner/name@" + commit)->folder, hub.snapshot());
  hub.options.offline = true;
  EXPECT_EQ(hub.fetch()->folder, hub.snapshot());
  EXPECT_FALSE(hub.fetch("owner/other"));
  EXPECT_EQ(hub.server.requests().size(), 0u);
}

TEST(Fetch, ABranchThatMovesIsFollowed) {
  TestHub hub;
  hub.fetch();
  ServedRepo& repo = hub.server.models["owner/name"];
  repo.commit = std::string(40, 'b');
  repo.refs["main"] = repo.commit;
  repo.files["config.json"] = {"{ }"};
  hub.server.forget_requests();
  const auto model = hub.fetch();
  EXPECT_EQ(model->commit, std::string(40, 'b'));
  EXPECT_EQ(model->downloaded.files, 1u);  // the others are the same blobs
  EXPECT_EQ(content_of(hub.snapshot() / "config.json"), "{ }");
  EXPECT_EQ(content_of(hub.entry() / "refs/main"), repo.commit);
}

TEST(Fetch, EveryKindOfRevision) {
  TestHub hub;
  ServedRepo& repo = hub.server.models["owner/name"];
  repo.refs["feature/x"] = repo.refs["refs/pr/7"] = repo.commit;
  for (const std::string id : {"owner/name@feature/x", "owner/name@refs/pr/7"}) {
    EXPECT_EQ(hub.fetch(id)->folder, hub.snapshot()) << id;
  }
  EXPECT_EQ(content_of(hub.entry() / "refs/feature/x"), repo.commit);
  EXPECT_EQ(content_of(hub.entry() / "refs/refs/pr/7"), repo.commit);
  hub.server.models["gpt2"] = served_model();
  EXPECT_EQ(hub.fetch("gpt2")->folder, hub.options.cache / "models--gpt2/snapshots" / repo.commit);
  EXPECT_FALSE(hub.fetch("../name"));
  EXPECT_FALSE(hub.fetch("a/b/c"));
}

TEST(Fetch, TokensGoToTheEndpointAlone) {
  TestHub hub;
  hub.server.models["owner/name"].token = hub.options.token = "secret";
  hub.fetch();
  size_t at_hub = 0, at_storage = 0;
  for (const ServedRequest& r : hub.server.requests()) {
    ++(r.at_storage ? at_storage : at_hub);
    EXPECT_EQ(r.headers.contains("authorization"), !r.at_storage) << r.path;
  }
  EXPECT_GT(at_hub, 8u);
  EXPECT_EQ(at_storage, 3u);
  expect_whole(hub);
}

TEST(Fetch, WhereTheListSaysNoSizesEachFileIsAsked) {
  TestHub hub;
  hub.server.models["owner/name"].says_sizes = false;
  hub.fetch();
  expect_whole(hub);
}

TEST(Fetch, AdaptersAndSingleFilesAndTokenizersAlone) {
  TestHub hub;
  ServedRepo adapter;
  adapter.files["adapter_config.json"] = {"{}"};
  adapter.files["adapter_model.safetensors"] = {some_bytes(1000, 1), true};
  adapter.files["optimizer.pt"] = {"x"};
  hub.server.models["owner/lora"] = adapter;
  EXPECT_EQ(files_in(hub.fetch("owner/lora")->folder),
            (std::vector<std::string>{"adapter_config.json", "adapter_model.safetensors"}));
  ServedRepo mlx;
  mlx.files["adapter_config.json"] = {"{}"};
  mlx.files["adapters.safetensors"] = {some_bytes(1000, 2), true};
  mlx.files["0000100_adapters.safetensors"] = {some_bytes(1000, 3), true};
  hub.server.models["owner/mlx"] = mlx;
  EXPECT_EQ(files_in(hub.fetch("owner/mlx")->folder),
            (std::vector<std::string>{"adapter_config.json", "adapters.safetensors"}));
  ServedRepo single = served_model();
  single.files["model.safetensors"] = {some_bytes(1000, 9), true};
  hub.server.models["owner/single"] = single;
  EXPECT_FALSE(fs::exists(hub.fetch("owner/single")->folder / "model-00001-of-00002.safetensors"));
  const auto tokenizer = hub.fetcher().fetch("owner/name", ModelPart::kTokenizer);
  EXPECT_FALSE(fs::exists(tokenizer->folder / "model-00001-of-00002.safetensors"));
  EXPECT_TRUE(fs::exists(tokenizer->folder / "tokenizer.json"));
}

TEST(Fetch, GoesOnWhereAnEarlierRunEnded) {
  TestHub hub;
  const std::string whole =
      hub.server.models["owner/name"].files["model-00001-of-00002.safetensors"].content;
  const fs::path incomplete = hub.entry() / "blobs" / (large_name(whole) + ".incomplete");
  fs::create_directories(incomplete.parent_path());
  std::ofstream(incomplete) << whole.substr(0, 60'000);
  hub.fetch();
  expect_whole(hub);
  bool ranged = false;
  for (const ServedRequest& r : hub.server.requests())
    ranged |=
        r.at_storage && r.headers.contains("range") && r.headers.at("range") == "bytes=60000-";
  EXPECT_TRUE(ranged);
}

TEST(Fetch, WhatAnEarlierRunLeftMayBeWrong) {
  for (const size_t size : {60'000, 100'000, 200'000}) {  // a part, as long as the file, longer
    TestHub hub;
    const std::string whole =
        hub.server.models["owner/name"].files["model-00001-of-00002.safetensors"].content;
    const fs::path incomplete = hub.entry() / "blobs" / (large_name(whole) + ".incomplete");
    fs::create_directories(incomplete.parent_path());
    std::ofstream(incomplete) << std::string(size, 'x');
    hub.fetch();
    expect_whole(hub);
  }
}

// ---- faults ----

bool is_shard(const ServedRequest& r) { return r.at_storage && r.method == "GET"; }

// What goes wrong a few times and is then right ends in the same bytes.
TEST(HubFaults, TemporaryOnesAreTriedAgain) {
  const std::vector<std::pair<const char*, Fault>> faults = {
      {"429", {.status = 429}},
      {"429 with Retry-After", {.status = 429, .headers = {{"Retry-After", "0"}}}},
      {"429 with RateLimit", {.status = 429, .headers = {{"RateLimit", "\"api\";r=0;t=0"}}}},
      {"a date", {.status = 503, .headers = {{"Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT"}}}},
      {"408", {.status = 408}},
      {"500", {.status = 500}},
      {"502", {.status = 502}},
      {"503", {.status = 503}},
      {"504", {.status = 504}},
      {"no answer", {.close = true}},
      {"cut at once", {.cut_after = 0}},
      {"cut", {.cut_after = 10}},
      {"wrong bytes", {.flip_byte = true}},
  };
  for (const auto& [name, fault] : faults) {
    for (const bool shards : {true, false}) {
      TestHub hub;
      if (!shards && std::string(name) == "wrong bytes") continue;  // JSON with another letter
      hub.server.fault = [&](const ServedRequest& r) {
        const bool here = shards ? is_shard(r) : !r.at_storage;
        return here && r.number == 0 ? fault : Fault{};
      };
      const auto model = hub.fetch();
      ASSERT_TRUE(model) << name;
      SCOPED_TRACE(name);
      expect_whole(hub);
    }
  }
}

TEST(HubFaults, RangesThatAreNotKept) {
  for (const Fault& fault :
       {Fault{.no_range = true}, Fault{.other_range = true}, Fault{.status = 416}}) {
    TestHub hub;
    hub.server.fault = [&](const ServedRequest& r) {
      if (!is_shard(r)) return Fault{};
      if (r.number == 0) return Fault{.cut_after = 30'000};
      return r.number == 1 ? fault : Fault{};
    };
    hub.fetch();
    expect_whole(hub);
  }
}

struct Refusal {
  const char* name;
  Fault fault;
  ExitCode code;
  std::vector<std::string> says;
};

// The same answer each time ends in one line that says what to do.
TEST(HubFaults, LastingOnesAreRefused) {
  const std::vector<Refusal> all = {
      {"429", {.status = 429}, ExitCode::kResource, {"owner/name", "too many requests"}},
      {"an hour",
       {.status = 429, .headers = {{"Retry-After", "3600"}}},
       ExitCode::kResource,
       {"3600 s"}},
      {"500", {.status = 500}, ExitCode::kResource, {"owner/name", "500"}},
      {"501", {.status = 501}, ExitCode::kResource, {"501"}},
      {"cut", {.cut_after = 100}, ExitCode::kResource, {"model-0000", "600 of 100000 bytes"}},
      {"no answer", {.close = true}, ExitCode::kResource, {"model-0000"}},
      {"wrong bytes", {.flip_byte = true}, ExitCode::kInput, {"SHA-256", "model-0000"}},
      {"longer", {.body = std::string(300'000, 'x')}, ExitCode::kInput, {"more bytes", "100000"}},
      {"shorter", {.body = "x"}, ExitCode::kResource, {"6 of 100000 bytes"}},
      {"403", {.status = 403}, ExitCode::kUsage, {"conditions"}},
      {"404", {.status = 404}, ExitCode::kUsage, {"no such file"}},
      {"loop",
       {.status = 302, .headers = {{"Location", "/loop"}}},
       ExitCode::kResource,
       {"redirects"}},
      {"no http",
       {.status = 302, .headers = {{"Location", "file:///etc/passwd"}}},
       ExitCode::kResource,
       {"not followed"}},
  };
  for (const Refusal& refusal : all) {
    TestHub hub;
    hub.server.fault = [&](const ServedRequest& r) {
      const bool first = r.path.find("/blobs/") != std::string::npos || r.path == "/loop";
      const bool large = first && r.at_storage &&
                         r.path.find(large_name(
                             served_model().files["model-00001-of-00002.safetensors"].content)) !=
                             std::string::npos;
      return large || r.path == "/loop" ? refusal.fault : Fault{};
    };
    const Error e = error_of(hub);
    SCOPED_TRACE(fmt::format("{}: {}", refusal.name, e.what()));
    EXPECT_EQ(e.code(), refusal.code);
    const std::string what = e.what();
    for (const std::string& words : refusal.says) EXPECT_NE(what.find(words), what.npos) << words;
    EXPECT_EQ(what.find('\n'), what.npos);
    expect_nothing_half_made(hub);
  }
}

// What the hub says about a repository may be anything.
TEST(HubFaults, ListsOfFilesThatAreNone) {
  const auto listing = [](const std::string& siblings) {
    return R"({"sha": ")" + std::string(40, 'a') + R"(", "siblings": [)" + siblings + "]}";
  };
  const std::vector<std::pair<const char*, std::string>> bodies = {
      {"nothing", ""},
      {"no JSON", "<html>captive portal</html>"},
      {"no object", "[1]"},
      {"no commit", R"({"siblings": []})"},
      {"a commit that is none", R"({"sha": "../../x", "siblings": []})"},
      {"a name that leaves the folder", listing(R"({"rfilename": "../../../.bashrc"})")},
      {"an absolute name", listing(R"({"rfilename": "/etc/passwd"})")},
      {"a name that is none", listing(R"({"rfilename": 7})")},
      {"no weights", listing(R"({"rfilename": "config.json"})")},
      {"only pickles",
       listing(R"({"rfilename": "pytorch_model.bin"}, {"rfilename": "config.json"})")},
      {"deep", std::string(100'000, '[')},
  };
  for (const auto& [name, body] : bodies) {
    TestHub hub;
    hub.server.fault = [&](const ServedRequest& r) {
      return r.path.starts_with("/api/") ? Fault{.body = body} : Fault{};
    };
    const Error e = error_of(hub);
    SCOPED_TRACE(fmt::format("{}: {}", name, e.what()));
    EXPECT_EQ(e.code(), ExitCode::kInput);
    expect_nothing_half_made(hub);
  }
}

TEST(HubFaults, HashesThatLeaveTheFolder) {
  TestHub hub;
  hub.server.fault = [&](const ServedRequest& r) {
    if (!r.path.starts_with("/api/")) return Fault{};
    return Fault{.body = R"({"sha": ")" + std::string(40, 'a') +
                         R"(", "siblings": [{"rfilename": "model.safetensors", "size": 3,)"
                         R"( "blobId": "../../../x"}, {"rfilename": "config.json"}]})"};
  };
  error_of(hub);
  expect_nothing_half_made(hub);
  EXPECT_FALSE(fs::exists(hub.dir.path / "x"));
}

TEST(HubFaults, SizesThatContradictEachOther) {
  TestHub hub;
  hub.server.fault = [](const ServedRequest& r) {
    return r.path.ends_with(".safetensors") ? Fault{.linked_size = 7} : Fault{};
  };
  const Error e = error_of(hub);
  EXPECT_EQ(e.code(), ExitCode::kInput) << e.what();
  EXPECT_NE(std::string(e.what()).find("7 bytes now"), std::string::npos) << e.what();
  expect_nothing_half_made(hub);
}

TEST(HubFaults, AnIndexThatNamesAnAbsentShard) {
  TestHub hub;
  hub.server.models["owner/name"].files.erase("model-00002-of-00002.safetensors");
  const Error e = error_of(hub);
  EXPECT_EQ(e.code(), ExitCode::kInput);
  EXPECT_NE(std::string(e.what()).find("model-00002-of-00002"), std::string::npos) << e.what();
}

TEST(HubFaults, WhoMayNotReadIsToldWhatToDo) {
  TestHub hub;
  const auto says = [&](const std::string& words) {
    const Error e = error_of(hub);
    EXPECT_EQ(e.code(), ExitCode::kUsage);
    EXPECT_NE(std::string(e.what()).find(words), std::string::npos) << e.what();
    EXPECT_EQ(std::string(e.what()).find("secret"), std::string::npos) << e.what();
  };
  hub.server.models["owner/name"].token = "right";
  says("no token was sent: set HF_TOKEN");
  hub.options.token = "secret";
  hub.options.token_source = "HF_TOKEN";
  says("the token of HF_TOKEN was sent");
  hub.server.models["owner/name"].token = "";
  hub.server.models["owner/name"].gated = true;
  says("accept the conditions at " + hub.server.address() + "/owner/name");
  hub.server.models.clear();
  says("has no such model, or it is private");
  hub.server.models["owner/name"] = served_model();
  const Error e = error_of(hub, "owner/name@nothing");
  EXPECT_NE(std::string(e.what()).find("no revision nothing"), std::string::npos) << e.what();
}

TEST(HubFaults, WhatTheHubSaysIsPrintable) {
  TestHub hub;
  hub.server.fault = [](const ServedRequest&) {
    return Fault{.status = 404, .headers = {{"X-Error-Message", "a\x1b[31mb"}}};
  };
  EXPECT_EQ(std::string(error_of(hub).what()).find('\x1b'), std::string::npos);
}

TEST(HubFaults, TheCacheServesWhereTheHubDoesNot) {
  for (const Fault& fault :
       {Fault{.status = 503}, Fault{.close = true}, Fault{.status = 401}, Fault{.body = "x"}}) {
    TestHub hub;
    hub.fetch();
    hub.server.fault = [&](const ServedRequest&) { return fault; };
    hub.server.forget_requests();
    EXPECT_EQ(hub.fetch()->folder, hub.snapshot());
    EXPECT_EQ(hub.server.requests().size(), 1u);
    ASSERT_EQ(hub.notes.size(), 1u);
    EXPECT_NE(hub.notes[0].find("the cache's copy is used"), std::string::npos);
  }
}

TEST(HubFaults, NobodyListens) {
  TestHub hub;
  hub.options.endpoint = "http://127.0.0.1:1";
  EXPECT_EQ(error_of(hub).code(), ExitCode::kResource);
  for (const char* address : {"", "hub", "ftp://hub", "http://"}) {
    hub.options.endpoint = address;
    EXPECT_NE(error_of(hub).code(), ExitCode::kDone) << address;
  }
}

TEST(HubFaults, SilenceEndsAfterTheLongestWait) {
  for (const Fault& fault : {Fault{.silence = 30}, Fault{.stall = 30}}) {
    TestHub hub;
    hub.options.patience = std::chrono::milliseconds(300);
    hub.server.fault = [&](const ServedRequest& r) {
      return is_shard(r) && r.number == 0 ? fault : Fault{};
    };
    hub.fetch();
    expect_whole(hub);
  }
}

TEST(HubFaults, AnInterruptEndsEveryWaitWithinASecond) {
  for (const Fault& fault : {Fault{.silence = 30}, Fault{.stall = 30},
                             Fault{.status = 429, .headers = {{"Retry-After", "30"}}}}) {
    TestHub hub;
    hub.server.models["owner/name"] = served_model(200'000);
    hub.server.fault = [&](const ServedRequest& r) { return is_shard(r) ? fault : Fault{}; };
    std::atomic<bool> end = false;
    hub.stop = [&] { return end.load(); };
    std::thread later([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));
      end = true;
    });
    const auto begun = std::chrono::steady_clock::now();
    EXPECT_EQ(error_of(hub).code(), ExitCode::kInterrupted);
    EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(1600));
    later.join();
    expect_nothing_half_made(hub);
    end = false;
    hub.server.fault = nullptr;
    hub.fetch();
    expect_whole(hub);
  }
}

TEST(HubFaults, WhatProgressThrowsEndsTheWork) {
  TestHub hub;
  hub.server.bytes_per_second = 20'000;
  ModelFetcher fetcher(
      hub.options, {}, [](const std::string&) {},
      [](const Progress&) { throw Error(ExitCode::kInterrupted, "enough"); });
  EXPECT_THROW(fetcher.fetch("owner/name"), Error);
  expect_nothing_half_made(hub);
}

TEST(HubFaults, AFullDiskIsKnownBefore) {
  TestHub hub;
  hub.server.fault = [](const ServedRequest& r) {
    if (!r.path.starts_with("/api/")) return Fault{};
    return Fault{.body = R"({"sha": ")" + std::string(40, 'a') +
                         R"(", "siblings": [{"rfilename": "model.safetensors",)"
                         R"( "size": 900000000000000000, "blobId": "x", "lfs": {"sha256": ")" +
                         std::string(64, 'c') + R"("}}]})"};
  };
  const Error e = error_of(hub);
  EXPECT_EQ(e.code(), ExitCode::kResource);
  EXPECT_NE(std::string(e.what()).find("HF_HUB_CACHE"), std::string::npos) << e.what();
  for (const ServedRequest& r : hub.server.requests()) EXPECT_FALSE(r.at_storage);
}

TEST(HubFaults, TwoProcessesFillOneCache) {
  TestHub hub;
  hub.server.bytes_per_second = 1'000'000;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back(
        [&] { ModelFetcher(hub.options, {}, [](const std::string&) {}, {}).fetch("owner/name"); });
  for (std::thread& thread : threads) thread.join();
  expect_whole(hub);
  size_t large = 0;
  for (const ServedRequest& r : hub.server.requests()) large += r.at_storage;
  EXPECT_EQ(large, 3u);  // the lock: each file came once
}

// A hundred downloads, each cut at random places again and again, and sometimes ended and begun
// anew: the same bytes.
TEST(HubFaults, AHundredRandomCutsEndInTheSameBytes) {
  uint64_t state = 1;
  const auto random = [&state](uint64_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % below;
  };
  for (int run = 0; run < 100; ++run) {
    TestHub hub;
    std::mutex mutex;
    hub.server.fault = [&](const ServedRequest& r) {
      const std::lock_guard lock(mutex);
      if (!is_shard(r) || r.number > 3) return Fault{};
      return Fault{.cut_after = random(120'000)};
    };
    if (run % 4 == 0) {  // the first run gives up early
      hub.server.fault = [&](const ServedRequest& r) {
        const std::lock_guard lock(mutex);
        return is_shard(r) ? Fault{.cut_after = r.number < 6 ? random(20) : 0} : Fault{};
      };
      EXPECT_THROW(hub.fetch(), Error);
      hub.server.fault = nullptr;
    }
    hub.fetch();
    expect_whole(hub);
    if (HasFailure()) return;
  }
}

// ---- what the environment says ----

TEST(HubOptions, AsTheEnvironmentSays) {
  const TempDir dir;
  std::ofstream(dir.path / "token") << " from_file \n";
  const ScopedEnv cache("HF_HUB_CACHE", ""), older("HUGGINGFACE_HUB_CACHE", "");
  const ScopedEnv home("HF_HOME", dir.path.string()), none("HF_TOKEN", ""),
      old("HUGGING_FACE_HUB_TOKEN", "");
  const ScopedEnv path("HF_TOKEN_PATH", ""), offline("HF_HUB_OFFLINE", ""),
      off2("TRANSFORMERS_OFFLINE", "");
  const ScopedEnv endpoint("HF_ENDPOINT", "http://hub.example/");
  HubOptions options = hub_options();
  EXPECT_EQ(options.endpoint, "http://hub.example");
  EXPECT_EQ(options.token, "from_file");
  EXPECT_EQ(options.token_source, (dir.path / "token").string());
  EXPECT_EQ(options.cache, dir.path / "hub");
  EXPECT_FALSE(options.offline);
  {
    const ScopedEnv own("HF_TOKEN", "from_variable\n"), on("HF_HUB_OFFLINE", "yes");
    options = hub_options();
    EXPECT_EQ(options.token, "from_variable");
    EXPECT_EQ(options.token_source, "HF_TOKEN");
    EXPECT_TRUE(options.offline);
  }
  const ScopedEnv broken("HF_TOKEN", "two\nlines");
  EXPECT_THROW(hub_options(), Error);
}

TEST(Urls, OriginsAndRedirects) {
  EXPECT_EQ(origin_of("https://Hub.example/a"), "https://hub.example:443");
  EXPECT_EQ(origin_of("http://hub.example:8080"), "http://hub.example:8080");
  EXPECT_EQ(origin_of("http://hub.example@evil.example/"), "http://evil.example:80");
  EXPECT_EQ(origin_of("ftp://hub.example"), "");
  EXPECT_EQ(joined_url("http://a/b/c?d", "/x"), "http://a/x");
  EXPECT_EQ(joined_url("http://a/b/c?d", "x"), "http://a/b/x");
  EXPECT_EQ(joined_url("http://a", "x"), "http://a/x");
  EXPECT_EQ(joined_url("https://a/b", "//c/d"), "https://c/d");
  EXPECT_EQ(joined_url("http://a/b", "https://c"), "https://c");
  EXPECT_EQ(percent_encoded("refs/pr/7 ä", false), "refs%2Fpr%2F7%20%C3%A4");
}

}  // namespace
}  // namespace lewis
