// Repositories for the test hub, and a fetcher that asks it.
#pragma once

#include <string>
#include <vector>

#include "hub/fetch.h"
#include "hub/hub_server.h"
#include "temp_dir.h"

namespace lewis {

// Bytes that look random, the same for every run.
inline std::string some_bytes(size_t size, uint64_t seed) {
  std::string bytes(size, '\0');
  uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
  for (char& c : bytes) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    c = static_cast<char>(state);
  }
  return bytes;
}

// A model in two shards, with files that nobody needs.
inline ServedRepo served_model(size_t shard_bytes = 100'000) {
  ServedRepo repo;
  repo.files["config.json"] = {R"({"model_type": "llama"})"};
  repo.files["tokenizer.json"] = {some_bytes(5'000, 1), true};
  repo.files["tokenizer_config.json"] = {"{}"};
  repo.files["additional_chat_templates/tool.jinja"] = {"{{ messages }}"};
  repo.files["model.safetensors.index.json"] = {
      R"({"metadata": {"total_size": 1}, "weight_map": {"a": "model-00001-of-00002.safetensors",)"
      R"( "b": "model-00002-of-00002.safetensors"}})"};
  repo.files["model-00001-of-00002.safetensors"] = {some_bytes(shard_bytes, 2), true};
  repo.files["model-00002-of-00002.safetensors"] = {some_bytes(shard_bytes / 2, 3), true};
  repo.files["README.md"] = {"---\nlicense: mit\n---\n"};
  repo.files["modeling_llama.py"] = {"import os"};
  repo.files["pytorch_model.bin"] = {some_bytes(100, 4), true};
  repo.files["original/consolidated.00.pth"] = {some_bytes(100, 5), true};
  repo.files["vocab.pkl"] = {some_bytes(100, 6)};
  repo.files["onnx/model.onnx"] = {some_bytes(100, 7), true};
  return repo;
}

// The files of served_model() that lewis needs.
inline std::vector<std::string> needed_names() {
  return {"README.md",
          "additional_chat_templates/tool.jinja",
          "config.json",
          "model-00001-of-00002.safetensors",
          "model-00002-of-00002.safetensors",
          "model.safetensors.index.json",
          "tokenizer.json",
          "tokenizer_config.json"};
}

// A hub with the model "owner/name", a cache of its own, and options with short waits.
struct TestHub {
  TestHub() {
    server.models["owner/name"] = served_model();
    options.endpoint = server.address();
    options.cache = dir.path / "hub";
    options.patience = std::chrono::milliseconds(5'000);
    options.pause = std::chrono::milliseconds(1);
  }

  ModelFetcher fetcher() {
    return ModelFetcher(
        options, stop, [this](const std::string& note) { notes.push_back(note); },
        [this](const Progress& p) { last = p; });
  }
  std::optional<FetchedModel> fetch(const std::string& id = "owner/name") {
    return fetcher().fetch(id);
  }
  std::filesystem::path entry() const { return options.cache / "models--owner--name"; }
  std::filesystem::path snapshot() const {
    return entry() / "snapshots" / server.models.at("owner/name").commit;
  }

  TempDir dir;
  HubServer server;
  HubOptions options;
  StopFn stop;
  std::vector<std::string> notes;
  Progress last;
};

}  // namespace lewis
