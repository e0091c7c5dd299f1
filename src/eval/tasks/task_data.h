// Where the data of a known task lie. Nothing is fetched.
#pragma once

#include <filesystem>
#include <string_view>

namespace lewis {

struct TaskData {
  std::string_view name;  // in a data folder: "gsm8k_test.jsonl"; "": the task has none of its own
  std::string_view dataset;   // on the Hugging Face hub, and the file there: "openai/gsm8k"
  std::string_view split;     // of the file's name in the hub's cache: "test"
  std::string_view source;    // where to get it
  std::string_view config{};  // of the data set; "": the only one, or its default
};

// folder/name, else NAME.jsonl or SPLIT.jsonl in a snapshot of the dataset in the Hugging Face
// cache, else the config and split of that data set as the hub has it (text/data_set.h), Parquet
// mostly. Throws Error(kInput) that names the file, where it was looked for and where to get it.
std::filesystem::path find_task_data(const TaskData& data, const std::filesystem::path& folder);

}  // namespace lewis
