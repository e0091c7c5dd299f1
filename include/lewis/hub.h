// The hub that models come from and go to: Hugging Face's, or another that speaks its protocol.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <lewis/export.h>
#include <lewis/recipe.h>
#include <lewis/run_context.h>

namespace lewis {

// Where the hub is and how it is asked. The defaults are those of a program without environment.
struct HubOptions {
  std::string endpoint = "https://huggingface.co";  // without a slash at its end
  std::string token;            // "": none. It is sent to the endpoint alone, never to another host
  std::string token_source;     // how messages name it: a variable or a file
  std::filesystem::path cache;  // the hub's cache; empty: as the environment says
  bool offline = false;         // no request is made
  size_t connections = 4;       // files that are downloaded at once
  // The longest wait for a connection, an answer or more bytes.
  std::chrono::milliseconds patience{30'000};
  // Before the first retry; it doubles with each. Retry-After of the hub comes before it.
  std::chrono::milliseconds pause{1'000};
};

// HF_ENDPOINT, HF_TOKEN (else the file HF_TOKEN_PATH, else HF_HOME/token), HF_HUB_CACHE and its
// relatives, HF_HUB_OFFLINE: what huggingface_hub reads.
LEWIS_API HubOptions hub_options();

// ---- pull: models of the hub as folders in its cache ----

struct PullJob {
  std::vector<std::string> names;  // ids ("owner/name", "name@revision"), or files of recipes
  // Data sets: ids, with "#SPLIT" or "#CONFIG/SPLIT" if a part is meant; without a split, all of
  // the config.
  std::vector<std::string> data;
  HubOptions hub = hub_options();
};
struct PulledModel {
  std::string id, commit;
  std::filesystem::path folder;   // the snapshot in the cache
  uint64_t files = 0, bytes = 0;  // that came over the network
};
struct PullResult {
  std::vector<PulledModel> models;
};

// Downloads what the cache lacks of each model: safetensors, index, configuration, tokenizer and
// templates, never code or pickles. Every file has the size and the hash that the hub states before
// it is used. Of a recipe, its data sets are downloaded, too. What was complete stays in the cache
// after an error, and an interrupted download goes on where it ended. Throws Error(kUsage): no such
// model or revision, access that the token does not have; Error(kInput): other bytes than the hub
// states; Error(kResource): the network, the hub's answers or the disk.
LEWIS_API PullResult pull(const PullJob& job, const RunContext& run = {});

// A model or recipe as the other verbs take it: a folder or file as it is, an id of the hub as its
// folder, pulled where the cache lacks it. The models and data sets that a recipe names are pulled,
// too. A name that is neither stays as it is.
LEWIS_API std::filesystem::path local_model(const std::filesystem::path& name,
                                            const HubOptions& hub, const RunContext& run = {});

struct EvaluateJob;

// Pulls data that are named as the other verbs take them, if they are the id of a data set
// ("owner/name", with "#SPLIT" or "#CONFIG/SPLIT"); the verbs then find them in the cache. Files
// and folders need nothing. Error(kInput) that lists the configs or splits that are there; else as
// pull.
LEWIS_API void pull_data(const std::filesystem::path& data, const HubOptions& hub,
                         const RunContext& run = {});
// The data of all tasks, those of known tasks among them where they are neither in
// settings.data_folder nor in the cache.
LEWIS_API void pull_data(const EvaluateJob& job, const HubOptions& hub, const RunContext& run = {});

// ---- stream: models of the hub that are merged without being stored ----

struct StreamOptions {
  HubOptions hub = hub_options();
  // Bytes of weights that may come into the cache where the recipe reads them several times
  // (calibration, refinement): more are streamed again in every pass.
  uint64_t max_disk = 0;
};

// As open_recipe, but the weights of models that are ids are not downloaded: merge(), forecast()
// and plan() read them from the hub while they work. Small files and adapters come into the cache,
// and models whose weights are there are read from it. What `run` points to must outlive the
// recipe. A merge of such a recipe that the network has cut leaves what MergeJob::resume needs, as
// one that was interrupted does. Throws as pull and open_recipe do.
LEWIS_API RecipePtr open_streamed(const std::filesystem::path& file, UnknownKeys unknown,
                                  const StreamOptions& options, const RunContext& run = {});

// ---- push: a merged model as a repository of the hub ----

struct PushJob {
  std::filesystem::path out;  // a folder that merge() has written
  std::string id;             // "owner/name"; "owner/name@branch" for another branch than main
  bool is_private = false;    // of a repository that does not exist yet
  bool force = false;         // also when a text in `out` names a folder of this machine
  HubOptions hub = hub_options();
};
struct PushResult {
  std::string url, commit;
  uint64_t files = 0, bytes = 0;  // bytes that went over the network
};

// Verifies `out`, then uploads what its manifest names, and the report if there is one, as one
// commit; readers see nothing of it before. The same job again goes on after an error: large files
// that have arrived are not sent again. Throws Error(kVerify): `out` is not what was written;
// Error(kUsage): no token, or no right to write, or a text that names a folder of this machine;
// Error(kResource): the network or the hub's answers.
LEWIS_API PushResult push(const PushJob& job, const RunContext& run = {});

// The objects that `lewis pull --json` and `lewis push --json` print.
LEWIS_API std::string json_text(const PullResult& result);
LEWIS_API std::string json_text(const PushResult& result);

}  // namespace lewis
