// Models that are merged while they come from a hub on this machine: the same bytes as models on
// disk give, each byte once, whatever the network does.
#include <gtest/gtest.h>

#include <lewis/lewis.h>

#include <atomic>
#include <cstring>
#include <fstream>
#include <mutex>
#include <set>
#include <thread>

#include "base/error.h"
#include "hub/hub_server.h"
#include "io/safetensors.h"
#include "scoped_env.h"
#include "snapshot.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

const fs::path kDemo = fs::path(LEWIS_DEMO);

class Streamed : public testing::Test {
 protected:
  // Serves a folder as a model.
  void serve(const std::string& id, const fs::path& folder) {
    ServedRepo& repo = server_.models[id];
    repo.files.clear();
    for (const auto& entry : fs::directory_iterator(folder)) {
      const std::string file = entry.path().filename().string();
      repo.files[file] = {file_text(entry.path()), file.ends_with(".safetensors")};
    }
    stored_[id] = folder.string();
  }
  // The demo's models, as they are or in several shards.
  void serve_demo(uint64_t shard_bytes = 0) {
    for (const std::string name : {"base", "math", "code"}) {
      const fs::path whole = kDemo / "models" / name, cut = dir_.path / ("cut_" + name);
      if (shard_bytes > 0) {
        MergeJob job;
        job.recipe = make_recipe("merge_method: linear\nmodels: [{model: " + whole.string() +
                                 ", parameters: {weight: 1}}]\n");
        job.out = cut;
        job.shard_bytes = shard_bytes;
        merge(job);
      }
      serve("tiny/" + name, shard_bytes > 0 ? cut : whole);
    }
  }

  // The recipe with the folders that are served instead of ids.
  std::string with_folders(std::string yaml) const {
    for (const auto& [id, folder] : stored_) {
      for (size_t at = 0; (at = yaml.find(id, at)) != yaml.npos; at += folder.size())
        yaml.replace(at, id.size(), folder);
    }
    return yaml;
  }
  fs::path file_of(const std::string& yaml) {
    const fs::path file = dir_.path / "recipe.yml";
    std::ofstream(file) << yaml;
    return file;
  }

  StreamOptions options(uint64_t max_disk = 0) const {
    StreamOptions options;
    options.hub.endpoint = server_.address();
    options.hub.cache = dir_.path / "hub";
    options.hub.patience = std::chrono::milliseconds(5'000);
    options.hub.pause = std::chrono::milliseconds(1);
    options.max_disk = max_disk;
    return options;
  }
  RunContext run() {
    RunContext run;
    run.threads = 2;
    run.notice = [this](const Notice& notice) { notes_.push_back(notice.text); };
    run.interrupted = &interrupted_;
    return run;
  }
  RecipePtr streamed(const std::string& yaml, uint64_t max_disk = 0) {
    return open_streamed(file_of(yaml), UnknownKeys::kRefused, options(max_disk), run());
  }

  MergeJob job_of(RecipePtr recipe, const std::string& out) const {
    MergeJob job;
    job.recipe = std::move(recipe);
    job.out = dir_.path / out / "model";  // its last part is in the card
    job.guidance.cache = dir_.path / "statistics";
    job.force = true;
    return job;
  }
  // The weights that a merge of stored models has.
  std::map<std::string, std::string> expected(const std::string& yaml, MergeJob job = {}) {
    MergeJob stored = job_of(open_recipe(file_of(with_folders(yaml))), "stored");
    stored.shard_bytes = job.shard_bytes;
    stored.guidance.cache = dir_.path / "statistics_of_stored";
    merge(stored, run());
    return weights(stored.out);
  }
  static std::map<std::string, std::string> weights(const fs::path& out) {
    std::map<std::string, std::string> files;
    for (const auto& [name, hash] : snapshot(out)) {
      if (name.ends_with(".safetensors") || name.ends_with("index.json") ||
          name.starts_with("tokenizer"))
        files[name] = hash;
    }
    return files;
  }
  // Merges with and without storing the models and compares; returns the bytes of weights that
  // came.
  uint64_t expect_same(const std::string& yaml, MergeJob how = {}) {
    const auto wanted = expected(yaml, how);
    server_.forget_requests();
    MergeJob job = job_of(streamed(yaml), "streamed");
    job.shard_bytes = how.shard_bytes;
    job.guidance.max_memory = how.guidance.max_memory;
    merge(job, run());
    EXPECT_EQ(weights(job.out), wanted);
    expect_no_weights_stored();
    return server_.storage_bytes();
  }
  void expect_no_weights_stored() const {
    if (!fs::exists(dir_.path / "hub")) return;
    for (const auto& entry : fs::recursive_directory_iterator(dir_.path / "hub")) {
      if (!entry.is_regular_file()) continue;
      EXPECT_LT(entry.file_size(), 100'000u) << entry.path();
    }
  }
  uint64_t served_weights(const std::vector<std::string>& ids) const {
    uint64_t bytes = 0;
    for (const std::string& id : ids) {
      for (const auto& [name, file] : server_.models.at(id).files)
        bytes += name.ends_with(".safetensors") ? file.content.size() : 0;
    }
    return bytes;
  }
  Error error_of(const std::string& yaml) {
    const MergeJob job = job_of(nullptr, "failed");
    try {
      MergeJob now = job;
      now.recipe = streamed(yaml);
      now.force = false;
      merge(now, run());
    } catch (const Error& e) {
      EXPECT_FALSE(fs::exists(job.out)) << e.what();
      EXPECT_EQ(fs::exists(job.out.string() + ".partial"),
                e.code() == ExitCode::kResource && notes_of_partial(e))
          << e.what();
      expect_no_weights_stored();
      return e;
    }
    return Error(ExitCode::kDone, "no error");
  }
  static bool notes_of_partial(const Error& e) {
    return std::string(e.what()).find("--resume goes on") != std::string::npos;
  }
  // True when the unfinished merge into `out` has written a shard; waits for it.
  static bool wait_for_shard(const fs::path& out) {
    const fs::path manifest = out.string() + ".partial/manifest.jsonl";
    for (int i = 0; i < 1000; ++i) {
      std::ifstream file(manifest);
      std::string line;
      while (std::getline(file, line)) {
        if (line.find(".safetensors") != line.npos) return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  bool noted(const std::string& words) const {
    for (const std::string& note : notes_) {
      if (note.find(words) != note.npos) return true;
    }
    return false;
  }

  TempDir dir_;
  HubServer server_;
  std::map<std::string, std::string> stored_;
  std::vector<std::string> notes_;
  std::atomic<bool> interrupted_ = false;
  ScopedEnv cache_{"HF_HUB_CACHE", (dir_.path / "hub").string()};
  ScopedEnv online_{"HF_HUB_OFFLINE", "0"}, no_token_{"HF_TOKEN", "secret"};
};

const std::string kTies =
    "merge_method: ties\nbase_model: tiny/base\nmodels:\n"
    "- {model: tiny/math, parameters: {weight: 0.7, density: 0.5}}\n"
    "- {model: tiny/code@main, parameters: {weight: 0.6, density: 0.4}}\ndtype: bfloat16\n";

const std::vector<std::string> kAll = {"tiny/base", "tiny/math", "tiny/code"};

// with_folders() replaces the id, which leaves "@main": folders have no revision.
std::string without_revision(std::string yaml) {
  for (size_t at = 0; (at = yaml.find("@main")) != yaml.npos;) yaml.erase(at, 5);
  return yaml;
}
const std::string kTiesPlain = without_revision(kTies);

TEST_F(Streamed, EachByteComesOnceAndNoneIsStored) {
  serve_demo();
  EXPECT_EQ(expect_same(kTiesPlain), served_weights(kAll));
  EXPECT_FALSE(noted("not compared"));
  EXPECT_LE(server_.connections, 2 * options().hub.connections) << "each serves many requests";
  for (const ServedRequest& r : server_.requests()) {
    if (!r.at_storage) continue;
    EXPECT_TRUE(r.headers.contains("range"));
    EXPECT_FALSE(r.headers.contains("authorization"));
  }
}

TEST_F(Streamed, ShardsInAnyOrderOfLayers) {
  serve_demo(500'000);
  EXPECT_EQ(expect_same(kTiesPlain), served_weights(kAll));
  EXPECT_FALSE(noted("not compared"));
}

TEST_F(Streamed, EveryMethodOfMergekit) {
  serve_demo(1'000'000);
  for (const std::string method :
       {"linear", "task_arithmetic", "dare_ties", "dare_linear", "breadcrumbs", "della", "slerp",
        "nuslerp", "model_stock", "sce", "karcher", "multislerp", "nearswap", "arcee_fusion",
        "passthrough"}) {
    const bool one = method == "passthrough" || method == "arcee_fusion" || method == "nearswap" ||
                     method == "slerp";
    const bool no_base = method == "linear" || method == "karcher" || method == "passthrough" ||
                         method == "nuslerp" || method == "multislerp";
    std::string yaml = "merge_method: " + method + "\n";
    if (!no_base) yaml += "base_model: tiny/base\n";
    yaml += "models:\n- {model: tiny/math, parameters: {weight: 0.5}}\n";
    if (!one) yaml += "- {model: tiny/code, parameters: {weight: 0.5}}\n";
    yaml += "parameters: {density: 0.5, gamma: 0.01, epsilon: 0.1, t: 0.4, select_topk: 0.5}\n";
    SCOPED_TRACE(method);
    expect_same(yaml);
  }
}

TEST_F(Streamed, SlicesStagesAdaptersAndTokenizers) {
  serve_demo(700'000);
  // A stack that takes two layers twice: their bytes come twice.
  expect_same(
      "merge_method: passthrough\nslices:\n"
      "- {sources: [{model: tiny/math, layer_range: [0, 5]}]}\n"
      "- {sources: [{model: tiny/code, layer_range: [3, 8]}]}\n"
      "- {sources: [{model: tiny/code, layer_range: [3, 8]}]}\n");
  expect_same(
      "name: half\nmerge_method: linear\nmodels:\n"
      "- {model: tiny/math, parameters: {weight: 0.5}}\n"
      "- {model: tiny/base, parameters: {weight: 0.5}}\n---\n"
      "merge_method: slerp\nbase_model: tiny/base\nmodels: [{model: half}]\n"
      "parameters: {t: 0.3}\n");
  std::string tokens = file_text(kDemo / "models/code/tokenizer_config.json");
  server_.models["tiny/code"].files["tokenizer_config.json"] = {tokens, false};
  expect_same(kTiesPlain +
              "tokenizer: {source: union, pad_to_multiple_of: 128, tokens: "
              "{\"<|endoftext|>\": {source: tiny/math, force: true}}}\n");
  expect_same(kTiesPlain + "tokenizer: {source: base, pad_to_multiple_of: 96}\n");
}

TEST_F(Streamed, AnAdapterComesIntoTheCache) {
  serve_demo();
  const fs::path folder = dir_.path / "lora";
  fs::create_directories(folder);
  std::vector<std::byte> a(4 * 2 * 384), b(4 * 128 * 2);
  for (size_t i = 0; i < a.size(); i += 4) {
    const float value = static_cast<float>(i % 97) / 1000;
    std::memcpy(a.data() + i, &value, 4);
    if (i < b.size()) std::memcpy(b.data() + i, &value, 4);
  }
  const std::string module = "base_model.model.model.layers.0.mlp.down_proj.lora_";
  write_safetensors(
      folder / "adapter_model.safetensors",
      {{module + "A.weight", DType::kF32, {2, 384}}, {module + "B.weight", DType::kF32, {128, 2}}},
      std::vector<std::span<const std::byte>>{a, b}, {});
  std::ofstream(folder / "adapter_config.json")
      << R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["down_proj"]})";
  serve("my/lora", folder);
  expect_same(
      "merge_method: linear\nmodels:\n- {model: tiny/base+my/lora, parameters: {weight: 0.5}}\n"
      "- {model: tiny/math, parameters: {weight: 0.5}}\n");
}

// A model of bfloat16 tensors with made-up values.
void write_model(const fs::path& folder, uint64_t seed, const std::string& config,
                 const std::vector<TensorInfo>& tensors) {
  fs::create_directories(folder);
  std::ofstream(folder / "config.json") << config;
  std::vector<std::vector<std::byte>> data;
  uint64_t state = seed;
  for (const TensorInfo& t : tensors) {
    data.emplace_back(byte_size(t));
    for (size_t i = 0; i < data.back().size(); i += 2) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      data.back()[i] = static_cast<std::byte>(state >> 40);
      data.back()[i + 1] = static_cast<std::byte>(0x3c);
    }
  }
  const std::vector<std::span<const std::byte>> spans(data.begin(), data.end());
  write_safetensors(folder / "model.safetensors", tensors, spans, {});
}

// With tensors that are merged in parts when there is little memory.
void write_large(const fs::path& folder, uint64_t seed) {
  write_model(folder, seed, R"({"model_type": "llama"})",
              {{"a.weight", DType::kBF16, {64, 512}},
               {"b.weight", DType::kBF16, {1280, 512}},
               {"c.weight", DType::kBF16, {512, 512}},
               {"d.weight", DType::kBF16, {64, 512}},
               {"e.weight", DType::kBF16, {1280, 512}}});
}

// Quantised models are widened while they come: codes and scales, in several shards.
TEST_F(Streamed, QuantizedModelsComeOnce) {
  for (const auto& entry : fs::directory_iterator(LEWIS_TEST_DATA "/golden/quantized")) {
    for (const std::string name : {"base", "math", "code"}) {
      const fs::path copy = dir_.path / (entry.path().filename().string() + name);
      fs::create_directories(copy);
      for (const auto& file : fs::directory_iterator(entry)) {
        if (file.path().filename() == "expected.safetensors") continue;
        fs::copy(file.path(), copy / file.path().filename());
      }
      serve("tiny/" + name, copy);
    }
    EXPECT_EQ(expect_same(kTiesPlain), served_weights(kAll)) << entry.path();
  }
}

// Experts are merged one by one, however they are stored, and their bytes come once.
TEST_F(Streamed, FusedExpertsComeOnce) {
  constexpr int64_t kExperts = 4, kInner = 96, kHidden = 256;
  const std::string mlp = "model.layers.0.mlp.experts.";
  const auto tensors = [&](bool transposed) {
    const Shape first = {kExperts, 2 * kInner, kHidden}, down = {kExperts, kHidden, kInner};
    const auto turned = [](const Shape& s) { return Shape{s[0], s[2], s[1]}; };
    return std::vector<TensorInfo>{
        {mlp + "gate_up_proj", DType::kBF16, transposed ? turned(first) : first},
        {mlp + "down_proj", DType::kBF16, transposed ? turned(down) : down}};
  };
  for (const std::string type : {"qwen3_moe", "gpt_oss"}) {
    for (const std::string name : {"base", "math", "code"}) {
      const bool transposed = type == "gpt_oss" || name == "math";
      fs::remove_all(dir_.path / name);
      write_model(dir_.path / name, name.size() + static_cast<size_t>(name[0]),
                  R"({"hidden_size": 256, "num_hidden_layers": 1, "model_type": ")" + type + "\"}",
                  tensors(transposed));
      serve("tiny/" + name, dir_.path / name);
    }
    EXPECT_EQ(expect_same(kTiesPlain), served_weights(kAll)) << type;
  }
}

TEST_F(Streamed, TensorsTooLargeForTheMemoryComeOnceAsWell) {
  for (const std::string name : {"base", "math", "code"}) {
    write_large(dir_.path / name, name.size() + static_cast<size_t>(name[0]));
    serve("tiny/" + name, dir_.path / name);
  }
  MergeJob small;
  const RecipePtr recipe = streamed(kTiesPlain);
  small.guidance.max_memory = forecast(job_of(recipe, "f"), run()).cost.least_memory;
  EXPECT_EQ(expect_same(kTiesPlain, small), served_weights(kAll));
  EXPECT_FALSE(noted("not compared"));
  for (const auto& entry : fs::directory_iterator(dir_.path / "streamed"))
    EXPECT_EQ(entry.path().filename(), "model");
  EXPECT_EQ(expect_same(kTiesPlain), served_weights(kAll));
}

TEST_F(Streamed, WhatIsInTheCacheIsNotStreamed) {
  serve_demo();
  pull({.names = kAll, .hub = options().hub}, run());
  server_.forget_requests();
  merge(job_of(streamed(kTies), "streamed"), run());
  for (const ServedRequest& r : server_.requests()) EXPECT_FALSE(r.at_storage);
  EXPECT_TRUE(noted("nothing is streamed"));
}

TEST_F(Streamed, AForecastReadsOnlyHeaders) {
  serve_demo();
  server_.forget_requests();
  const RecipePtr recipe = streamed(kTies);
  const MergeForecast f = forecast(job_of(recipe, "out"), run());
  EXPECT_GT(f.cost.bytes_fetched, 3 * 3'400'000u);
  EXPECT_EQ(f.cost.bytes_fetched, f.cost.bytes_read);
  EXPECT_LE(server_.storage_bytes(), 3 * 65'536u);
}

// ---- calibration ----

TEST_F(Streamed, CalibrationStreamsAgainOrDownloads) {
  serve_demo(900'000);
  const std::string data = (kDemo / "data/math_train.jsonl").string();
  const std::string yaml = kTiesPlain +
                           "lewis:\n  calibration:\n  - {model: tiny/math, data: " + data +
                           ", format: gsm8k, samples: 2}\n";
  expect_same(yaml);
  EXPECT_TRUE(noted("streamed again in every pass"));
  notes_.clear();
  fs::remove_all(dir_.path / "statistics");
  const auto wanted = weights(dir_.path / "streamed/model");
  const MergeJob job = job_of(streamed(yaml, 20'000'000), "downloaded");
  EXPECT_TRUE(noted("are downloaded into the hub's cache"));
  server_.forget_requests();
  merge(job, run());
  EXPECT_TRUE(server_.requests().empty());
  EXPECT_EQ(weights(job.out), wanted);
}

// The data that such a recipe names come into the cache, as those of any other.
TEST_F(Streamed, DataComeIntoTheCache) {
  serve_demo();
  const fs::path data = dir_.path / "questions.jsonl";
  const std::string all = file_text(kDemo / "data/math_train.jsonl");
  std::ofstream(data) << all.substr(0, all.find('\n', 20'000) + 1);
  server_.datasets["my/questions"].files["train.jsonl"] = {file_text(data), false};
  stored_["my/questions"] = data.string();
  expect_same(kTiesPlain +
              "lewis:\n  calibration:\n  - {model: tiny/math, data: my/questions, format: gsm8k, "
              "samples: 2}\n");
}

// ---- faults ----

bool is_weights(const ServedRequest& r) { return r.at_storage && r.method == "GET"; }

struct FaultCase {
  std::string name;
  std::function<Fault(const ServedRequest&)> fault;
  ExitCode code = ExitCode::kDone;  // kDone: the same bytes
  std::string words{};
};

TEST_F(Streamed, EveryFaultEndsInTheSameBytesOrAClearError) {
  serve_demo(1'500'000);
  const auto first = [](const Fault& wrong) {
    return
        [wrong](const ServedRequest& r) { return is_weights(r) && r.number < 2 ? wrong : Fault{}; };
  };
  const auto all = [](const Fault& wrong) {
    return [wrong](const ServedRequest& r) { return is_weights(r) ? wrong : Fault{}; };
  };
  const auto behind_the_head = [](const Fault& wrong) {
    return [wrong](const ServedRequest& r) {
      const auto range = r.headers.find("range");
      const bool is_head = range != r.headers.end() && range->second.starts_with("bytes=0-");
      return is_weights(r) && !is_head ? wrong : Fault{};
    };
  };
  const std::vector<FaultCase> cases = {
      {"cut", first({.cut_after = 1000})},
      {"closed", first({.close = true})},
      {"429", first({.status = 429, .headers = {{"Retry-After", "0"}}})},
      {"408", first({.status = 408})},
      {"500", first({.status = 500})},
      {"503", first({.status = 503})},
      {"416 once", first({.status = 416})},
      {"expired address", first({.status = 403}), ExitCode::kUsage, "granted"},
      {
          "address expires later",
          behind_the_head({}),
      },
      {"range ignored once", first({.no_range = true})},
      {"another range once", first({.other_range = true})},
      {"slow start", first({.silence = 0.3})},
      {"stall", first({.stall = 0.3})},
      {"cut for ever", all({.cut_after = 0}), ExitCode::kResource, "do not come"},
      {"cut for ever later", behind_the_head({.cut_after = 0}), ExitCode::kResource,
       "--resume goes on"},
      {"429 for ever", all({.status = 429, .headers = {{"Retry-After", "0"}}}), ExitCode::kResource,
       "too many requests"},
      {"429 for an hour", all({.status = 429, .headers = {{"Retry-After", "3600"}}}),
       ExitCode::kResource, "wait 3600 s"},
      {"500 for ever", all({.status = 500}), ExitCode::kResource, "status 500"},
      {"404", all({.status = 404}), ExitCode::kUsage, "no such file"},
      {"416 for ever", behind_the_head({.status = 416}), ExitCode::kResource, "no byte"},
      {"range ignored", behind_the_head({.no_range = true}), ExitCode::kResource, "whole file"},
      {"another range", behind_the_head({.other_range = true}), ExitCode::kResource,
       "another range"},
      {"wrong bytes", behind_the_head({.flip_byte = true}), ExitCode::kInput, "SHA-256"},
      {"another size", all({.headers = {{"Content-Range", "bytes 0-65535/77777777"}}}),
       ExitCode::kInput, "77777777"},
      {"no safetensors", all({.body = std::string(65'536, 'x')}), ExitCode::kInput, ""},
      {"ETag",
       [](const ServedRequest& r) {
         return Fault{.headers = {{"ETag", r.number < 1 ? "\"a\"" : "\"b\""}}};
       },
       ExitCode::kInput, "changed between two requests"},
      {"linked size",
       [](const ServedRequest& r) {
         return !r.at_storage && r.path.ends_with(".safetensors") ? Fault{.linked_size = 5}
                                                                  : Fault{};
       },
       ExitCode::kInput, "states 5 bytes now"},
      {"linked ETag",
       [](const ServedRequest& r) {
         return !r.at_storage && r.path.ends_with(".safetensors")
                    ? Fault{.status = 302,
                            .headers = {{"X-Repo-Commit", std::string(40, 'a')},
                                        {"X-Linked-ETag", "\"other\""},
                                        {"Location", "/x"}}}
                    : Fault{};
       },
       ExitCode::kInput, "states the hash"},
  };
  const auto wanted = expected(kTiesPlain);
  for (const FaultCase& c : cases) {
    SCOPED_TRACE(c.name);
    server_.fault = nullptr;
    server_.forget_requests();
    fs::remove_all(dir_.path / "failed");
    server_.fault = c.fault;
    if (c.code != ExitCode::kDone) {
      const Error e = error_of(kTiesPlain);
      EXPECT_EQ(e.code(), c.code) << e.what();
      EXPECT_NE(std::string(e.what()).find(c.words), std::string::npos) << e.what();
      EXPECT_EQ(std::string(e.what()).find("secret"), std::string::npos);
      continue;
    }
    const MergeJob job = job_of(streamed(kTiesPlain), "streamed");
    merge(job, run());
    EXPECT_EQ(weights(job.out), wanted);
  }
}

// An address that was signed for a while is asked for anew.
TEST_F(Streamed, AnAddressThatExpires) {
  serve_demo();
  std::mutex mutex;
  std::set<std::string> refused;
  server_.fault = [&](const ServedRequest& r) {
    const std::lock_guard lock(mutex);
    const bool now = is_weights(r) && r.number > 0 && refused.insert(r.path).second;
    return now ? Fault{.status = 403} : Fault{};
  };
  expect_same(kTiesPlain);
  EXPECT_EQ(refused.size(), 3u);
}

TEST_F(Streamed, AfterACutResumeGoesOn) {
  serve_demo(1'500'000);
  MergeJob how;
  how.shard_bytes = 400'000;
  const auto wanted = expected(kTiesPlain, how);
  StreamOptions one_by_one = options();
  one_by_one.hub.connections = 1;  // pieces come in the order of the shards that need them
  MergeJob job =
      job_of(open_streamed(file_of(kTiesPlain), UnknownKeys::kRefused, one_by_one, run()), "cut");
  job.shard_bytes = how.shard_bytes;
  // What comes behind the pieces of the first shard waits until that shard is written, and is cut.
  std::atomic<int> left = 4;
  server_.fault = [&](const ServedRequest& r) {
    if (!is_weights(r) || left-- > 0) return Fault{};
    return wait_for_shard(job.out) ? Fault{.cut_after = 10} : Fault{};
  };
  try {
    merge(job, run());
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kResource) << e.what();
    EXPECT_TRUE(notes_of_partial(e)) << e.what();
  }
  server_.fault = nullptr;
  server_.forget_requests();
  job.recipe = streamed(kTiesPlain);
  server_.forget_requests();
  job.resume = true;
  const MergeResult result = merge(job, run());
  EXPECT_GT(result.tensors.resumed, 0u);
  EXPECT_LT(server_.storage_bytes(), served_weights(kAll));
  EXPECT_EQ(weights(job.out), wanted);
  EXPECT_TRUE(noted("not compared with the hash"));
}

// A worker of a merge in parts fetches what its own shards need. Small gaps are read, too.
TEST_F(Streamed, EachWorkerFetchesItsOwnPart) {
  serve_demo();
  MergeJob how;
  how.shard_bytes = 400'000;
  const auto wanted = expected(kTiesPlain, how);
  uint64_t fetched = 0;
  constexpr uint64_t kParts = 3;
  for (uint64_t part = 0; part < kParts; ++part) {
    MergeJob job = job_of(streamed(kTiesPlain), "parts");
    job.shard_bytes = how.shard_bytes;
    job.part = MergePart{part, kParts};
    server_.forget_requests();
    const MergeResult result = merge(job, run());
    EXPECT_EQ(result.tensors.complete, part + 1 == kParts);
    EXPECT_GT(server_.storage_bytes(), 0u);
    EXPECT_LT(server_.storage_bytes(), served_weights(kAll) * 7 / 10) << part;
    fetched += server_.storage_bytes();
  }
  EXPECT_LT(fetched, served_weights(kAll) * 13 / 10);
  EXPECT_EQ(weights(dir_.path / "parts" / "model"), wanted);
}

TEST_F(Streamed, AnInterruptEndsSoonAndCanBeResumed) {
  serve_demo();
  server_.bytes_per_second = 3'000'000;
  MergeJob job = job_of(streamed(kTiesPlain), "interrupted");
  RunContext context = run();
  context.progress = [this](const Progress& p) { interrupted_ = p.done > p.total / 4; };
  try {
    merge(job, context);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kInterrupted) << e.what();
  }
  interrupted_ = false;
  server_.bytes_per_second = 0;
  EXPECT_TRUE(fs::exists(job.out.string() + ".partial"));
  job.resume = true;
  merge(job, run());
  EXPECT_EQ(weights(job.out), expected(kTiesPlain));
}

TEST_F(Streamed, AHundredRandomCutsEndInTheSameBytes) {
  serve_demo(1'500'000);
  const auto wanted = expected(kTiesPlain);
  uint64_t state = 1;
  const auto random = [&state](uint64_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % below;
  };
  std::mutex mutex;
  for (int i = 0; i < 100; ++i) {
    server_.forget_requests();
    server_.fault = [&](const ServedRequest& r) {
      const std::lock_guard lock(mutex);
      if (!is_weights(r) || r.number > 3) return Fault{};
      return Fault{.cut_after = random(1'500'000)};
    };
    const MergeJob job = job_of(streamed(kTiesPlain), "streamed");
    merge(job, run());
    ASSERT_EQ(weights(job.out), wanted) << "run " << i;
  }
}

}  // namespace
}  // namespace lewis
