#include "app/importance_cache.h"

#include <array>
#include <optional>

#include "base/build.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/text_file.h"
#include "io/file.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

std::string hash_of(const ImportanceKey& key) {
  Json origins = Json::array();
  for (const Statistics* statistics : key.statistics)
    origins.push_back(statistics ? Json(statistics->origin) : Json());
  const Json all = {
      {"program", version_and_build()}, {"recipe", key.recipe},      {"model", key.model},
      {"base", key.base_hash},          {"expert", key.expert_hash}, {"statistics", origins}};
  return sha256_hex(dump_json(all));
}

Json to_json(const ModelPlan& plan) {
  return {{"base_norm", plan.base_norm},
          {"expert_norm", plan.expert_norm},
          {"importance", plan.importance},
          {"part_importance", plan.part_importance},
          {"few_tokens", plan.few_tokens}};
}

// False where the file is missing or damaged; `plan` is as before then.
bool load(const fs::path& file, const std::string& hash, ModelPlan& plan) {
  try {
    if (!fs::exists(file)) return false;
    const Json json = parse_json(read_text_file(file), file.string());
    const Json& values = json.at("values");
    if (json.at("key") != hash || json.at("hash") != sha256_hex(dump_json(values))) return false;
    LayerPlan found;
    values.at("base_norm").get_to(found.base_norm);
    values.at("expert_norm").get_to(found.expert_norm);
    values.at("importance").get_to(found.importance);
    values.at("part_importance").get_to(found.part_importance);
    values.at("few_tokens").get_to(found.few_tokens);
    static_cast<LayerPlan&>(plan) = std::move(found);
    return true;
  } catch (const Json::exception&) {
  } catch (const Error&) {
  }
  return false;
}

}  // namespace

bool can_be_kept(const ImportanceKey& key) {
  for (const Statistics* statistics : key.statistics) {
    if (statistics && !statistics->origin.contains("sequences_hash")) return false;
  }
  return true;
}

void cached_importances(const fs::path& folder, const ImportanceKey& key, ModelPlan& plan,
                        const std::function<void()>& compute, const NoteFn& note) {
  const std::string hash = hash_of(key);
  const fs::path file = folder / (hash.substr(0, 32) + ".importances.json");
  if (load(file, hash, plan)) return;
  compute();
  const Json values = to_json(plan);
  const Json json = {{"key", hash}, {"hash", sha256_hex(dump_json(values))}, {"values", values}};
  try {
    write_file_durably(file, dump_json(json) + "\n");
  } catch (const Error& e) {
    tell_all(note,
             std::array{fmt::format(
                 "importances are not kept, so that the next plan reads the weights again: {}",
                 e.what())});
  }
}

}  // namespace lewis
