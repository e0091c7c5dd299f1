// What the verbs that ask the hub for models share.
#pragma once

#include <lewis/hub.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "base/progress.h"
#include "hub/fetch.h"
#include "recipe/named_models.h"

namespace lewis {

// With the environment's cache where none is named.
HubOptions with_cache(HubOptions hub);

// The caller's wishes as hub/ takes them: when to end, where notes go, who is told of progress.
StopFn stop_of(const RunContext& run);
std::function<void(const std::string&)> note_of(const RunContext& run);
ProgressFn progress_of(const RunContext& run);

// A model that the user names is missing, whatever the reason: a name that is mistyped reaches the
// hub as an id, also where there is no network.
bool is_unreached(const HubFailure& e);
// The words for a name that is no folder, where the hub refuses it or cannot be asked.
std::string words_for(const std::string& name, const HubFailure& e,
                      const std::filesystem::path& cache);

// Calls `work`, whose refusals by the hub and by its files name the recipe's line.
void at_line(const std::filesystem::path& recipe, int line, const std::string& name,
             const std::filesystem::path& cache, const std::function<void()>& work);

// Calls `take` for every model that a recipe names and that may be an id, with the part that is
// needed; errors as those of at_line().
void for_named_models(const std::filesystem::path& recipe, const std::filesystem::path& cache,
                      const std::function<void(const std::string&, ModelPart)>& take);

// Makes the cache hold a part of a data set: "ID", "ID#SPLIT" or "ID#CONFIG/SPLIT". Nothing comes
// back for what is no id, or is not cached while the hub may not be asked. `all_splits`: see
// names_of_part.
std::optional<FetchedModel> fetch_data(ModelFetcher& fetcher, const std::string& data,
                                       bool all_splits = false);
// Calls `take` for all data that a recipe names; errors as those of at_line().
void for_named_data(const std::filesystem::path& recipe, const std::filesystem::path& cache,
                    const std::function<void(const std::string&)>& take);

}  // namespace lewis
