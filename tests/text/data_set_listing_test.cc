// The files of a part of a data set, by names alone (text/data_set_listing.h).
#include "text/data_set_listing.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace lewis {
namespace {

using Names = std::vector<std::string>;

std::string refusal(const DataSetListing& listing, const std::string& config,
                    const std::string& split) {
  try {
    names_of_part(listing, config, split);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kInput);
    return e.what();
  }
  return "";
}

TEST(DataSetListing, TheHubsOwnConversion) {
  const DataSetListing set{"owner/set",
                           {"main/partial-train/0000.parquet", "main/partial-train/0001.parquet",
                            "main/test/0000.parquet", "socratic/everything/0000.parquet"},
                           ""};
  EXPECT_EQ(names_of_part(set, "main", "train"),
            (Names{"main/partial-train/0000.parquet", "main/partial-train/0001.parquet"}));
  EXPECT_EQ(names_of_part(set, "main", "test"), Names{"main/test/0000.parquet"});
  EXPECT_EQ(names_of_part(set, "socratic", ""), Names{"socratic/everything/0000.parquet"});
  EXPECT_EQ(names_of_part(set, "main", "", true).size(), 3u);
  EXPECT_NE(refusal(set, "", "test").find("main, socratic"), std::string::npos);
  EXPECT_NE(refusal(set, "main", "dev").find("owner/set: there is no split 'dev'"),
            std::string::npos);
}

TEST(DataSetListing, TheFrontMatterAndTheNames) {
  DataSetListing set{
      "owner/set",
      {".gitattributes", "README.md", "a.jsonl.gz", "b.csv", "c.py", "d.pkl"},
      "---\nconfigs:\n- config_name: default\n  data_files:\n  - {split: train, path: "
      "a.*}\n  - {split: test, path: b.csv}\n---\n"};
  EXPECT_EQ(names_of_part(set, "", ""), Names{"a.jsonl.gz"});
  EXPECT_EQ(names_of_part(set, "default", "test"), Names{"b.csv"});
  EXPECT_EQ(names_of_part(set, "", "", true), (Names{"a.jsonl.gz", "b.csv"}));
  set.readme.clear();
  EXPECT_EQ(names_of_part(set, "", ""), (Names{"a.jsonl.gz", "b.csv"})) << "no name says more";
  set.names = {"README.md", "set.py"};
  EXPECT_TRUE(names_of_part(set, "", "").empty());
}

}  // namespace
}  // namespace lewis
