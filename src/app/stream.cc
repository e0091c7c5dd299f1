// Recipes whose models are read from the hub while they are merged (docs/hub.md).
#include <algorithm>

#include "app/hub_models.h"
#include "base/human.h"
#include "hub/hub_stream.h"
#include "recipe/recipe.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// True for what reads its models more often than a merge does.
bool has_several_passes(const Recipe& recipe) {
  if (recipe.lewis && (!recipe.lewis->calibration.empty() || refines(recipe))) return true;
  const auto stage = [](const RecipeModel& m) { return m.stage && has_several_passes(*m.stage); };
  const auto module = [](const RecipeModule& m) { return has_several_passes(*m.recipe); };
  return std::ranges::any_of(recipe.models, stage) || std::ranges::any_of(recipe.modules, module);
}

void attach(Recipe& recipe, const std::shared_ptr<const HubStream>& stream) {
  const auto attached = [&](const Recipe& part) {
    Recipe copy = part;
    attach(copy, stream);
    return std::make_shared<const Recipe>(std::move(copy));
  };
  const auto attach_to = [&](RecipeModel& m) {
    if (m.stage) m.stage = attached(*m.stage);
    if (stream->has_files_in(m.folder)) m.far = stream;
  };
  for (RecipeModel& m : recipe.models) {
    attach_to(m);
    if (!m.experts_like) continue;
    RecipeModel like = *m.experts_like;
    attach_to(like);
    m.experts_like = std::make_shared<const RecipeModel>(std::move(like));
  }
  for (RecipeModule& m : recipe.modules) m.recipe = attached(*m.recipe);
}

// Downloads the weights or lets them be streamed in every pass, and says which.
void choose_for_passes(HubStream& stream, uint64_t max_disk,
                       const std::function<void(const std::string&)>& note) {
  const uint64_t bytes = stream.far_bytes();
  if (bytes <= max_disk) {
    note(
        fmt::format("the recipe reads its models several times: {} of weights are downloaded into "
                    "the hub's cache, which --max-disk {} allows",
                    human_bytes(bytes), max_disk));
    stream.download_all();
    return;
  }
  note(
      fmt::format("the recipe reads its models several times: {} of weights are streamed again in "
                  "every pass; --max-disk {} would download them once instead",
                  human_bytes(bytes), bytes));
}

}  // namespace

RecipePtr open_streamed(const fs::path& file, UnknownKeys unknown, const StreamOptions& options,
                        const RunContext& run) {
  const auto note = note_of(run);
  const HubOptions hub = with_cache(options.hub);
  const auto stream = std::make_shared<HubStream>(hub, stop_of(run), note, progress_of(run));
  for_named_models(file, hub.cache,
                   [&](const std::string& name, ModelPart part) { stream->add(name, part); });
  for_named_data(file, hub.cache,
                 [&](const std::string& data) { fetch_data(stream->fetcher(), data); });
  Recipe recipe = read_recipe(file, unknown);
  if (stream->far_bytes() == 0) {
    note(fmt::format("{}: nothing is streamed: all weights are on disk", file.string()));
  } else if (has_several_passes(recipe)) {
    choose_for_passes(*stream, options.max_disk, note);
  }
  stream->fetch_heads();
  attach(recipe, stream);
  return std::make_shared<const Recipe>(std::move(recipe));
}

}  // namespace lewis
