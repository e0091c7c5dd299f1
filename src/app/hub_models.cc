#include "app/hub_models.h"

#include "app/interrupts.h"
#include "base/error.h"
#include "base/text_file.h"
#include "io/hub_cache.h"
#include "text/data_set.h"
#include "text/data_set_listing.h"

namespace lewis {

namespace fs = std::filesystem;

HubOptions with_cache(HubOptions hub) {
  if (hub.cache.empty()) hub.cache = hub_cache_folder();
  return hub;
}

StopFn stop_of(const RunContext& run) {
  return [flag = run.interrupted] { return flag && *flag; };
}

std::function<void(const std::string&)> note_of(const RunContext& run) {
  return [notice = run.notice](const std::string& line) {
    if (notice) notice({true, "lewis: note: " + line});
  };
}

ProgressFn progress_of(const RunContext& run) {
  return [flag = run.interrupted, next = run.progress](const Progress& p) {
    if (flag) check_interrupt(*flag);
    if (next) next(p);
  };
}

bool is_unreached(const HubFailure& e) { return !e.is_final(); }

std::string words_for(const std::string& name, const HubFailure& e, const fs::path& cache) {
  if (!is_unreached(e)) return e.what();
  return fmt::format(
      "{}: no such folder or file, not in the hub cache {}, and the hub cannot be asked: {}", name,
      cache.string(), e.what());
}

void at_line(const fs::path& recipe, int line, const std::string& name, const fs::path& cache,
             const std::function<void()>& work) {
  try {
    work();
  } catch (const HubFailure& e) {
    throw HubFailure(is_unreached(e) ? ExitCode::kUsage : e.code(),
                     fmt::format("{}:{}: {}", recipe.string(), line, words_for(name, e, cache)),
                     e.is_final());
  } catch (const Error& e) {
    if (e.code() != ExitCode::kInput) throw;
    throw input_error("{}:{}: {}", recipe.string(), line, e.what());
  }
}

void for_named_models(const fs::path& recipe, const fs::path& cache,
                      const std::function<void(const std::string&, ModelPart)>& take) {
  for (const NamedModel& named : named_models(read_text_file(recipe), recipe)) {
    at_line(recipe, named.line, named.name, cache, [&] {
      take(named.name, named.only_tokenizer ? ModelPart::kTokenizer : ModelPart::kWhole);
    });
  }
}

std::optional<FetchedModel> fetch_data(ModelFetcher& fetcher, const std::string& data,
                                       bool all_splits) {
  const DataSetPart part = data_set_part(data);
  const std::string id = part.folder.string();
  if (!is_data_set_id(id)) return std::nullopt;
  const auto choose = [&](const std::vector<std::string>& names, const std::string& readme) {
    return names_of_part({id, names, readme}, part.config, part.split, all_splits);
  };
  return fetcher.fetch_data(id, data + (all_splits ? "#" : ""), choose);
}

void for_named_data(const fs::path& recipe, const fs::path& cache,
                    const std::function<void(const std::string&)>& take) {
  for (const NamedData& named : named_data(read_text_file(recipe), recipe))
    at_line(recipe, named.line, named.name, cache, [&] { take(named.name); });
}

}  // namespace lewis
