// Data sets of several files: folders as the Hugging Face hub has them.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace lewis {

// "FOLDER", "FOLDER#SPLIT" or "FOLDER#CONFIG/SPLIT": a data set of which a part is meant.
struct DataSetPart {
  std::filesystem::path folder;
  std::string config, split;  // "": the only one, or the usual one
};
DataSetPart data_set_part(const std::filesystem::path& data);
std::filesystem::path path_of(const DataSetPart& part);

// The files of the data, in the order in which they are read. A file is itself. Of a folder, the
// files of a part: those that the front matter of its README.md gives (configs, data_files), else
// those whose names say it (data/train-00000-of-00001.parquet, CONFIG/SPLIT-*.parquet,
// train.jsonl; without such names all are "train"). Without a config the one named "default" is
// meant, or the only one; without a split "train", or the only one. What does not exist is returned
// as it is. Throws Error(kInput) that lists the parts that are there.
std::vector<std::filesystem::path> data_files(const std::filesystem::path& data);

}  // namespace lewis
