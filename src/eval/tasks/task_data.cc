#include "eval/tasks/task_data.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "io/hub_cache.h"
#include "text/data_set.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// datasets--OWNER--NAME, where its snapshots are.
fs::path dataset_folder(std::string_view dataset) {
  std::string name = "datasets--" + std::string(dataset);
  name.replace(name.find('/'), 1, "--");
  return hub_cache_folder() / name / "snapshots";
}

// All files of all snapshots, in the order of their names.
std::vector<fs::path> snapshot_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    files.push_back(it->path());
  }
  std::ranges::sort(files);
  return files;
}

}  // namespace

fs::path find_task_data(const TaskData& data, const fs::path& folder) {
  if (!folder.empty() && fs::exists(folder / data.name)) return folder / data.name;
  const fs::path cache = dataset_folder(data.dataset);
  for (const fs::path& file : snapshot_files(cache)) {
    const fs::path name = file.filename();
    if (name == data.name || name == std::string(data.split) + ".jsonl") return file;
  }
  if (const auto set = find_data_set_in_hub_cache(data.dataset)) {
    const fs::path part = path_of({*set, std::string(data.config), std::string(data.split)});
    data_files(part);  // throws what is missing
    return part;
  }
  throw input_error(
      "{} is neither in {} nor in {}; it is {} (Hugging Face dataset {}): `lewis pull --dataset "
      "{}` "
      "downloads it; or put it into a folder and give --data-dir FOLDER",
      data.name, folder.empty() ? "a data folder (no --data-dir is given)" : folder.string(),
      cache.string(), data.source, data.dataset, data.dataset);
}

}  // namespace lewis
