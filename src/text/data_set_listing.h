// Which files of a data set hold a part of it, as their names and its README.md say: before they
// are downloaded, too.
#pragma once

#include <string>
#include <vector>

namespace lewis {

struct DataSetListing {
  std::string label;               // how messages name the data set
  std::vector<std::string> names;  // of all its files, with '/', sorted
  std::string readme;              // the text of README.md; "" without one
};

// The names of a part's files, as data_files (text/data_set.h) chooses them; none where no file
// holds data. `all_splits`: without a split, those of all splits of the config. Throws
// Error(kInput) that lists the configs or splits that are there.
std::vector<std::string> names_of_part(const DataSetListing& listing, const std::string& config,
                                       const std::string& split, bool all_splits = false);

}  // namespace lewis
