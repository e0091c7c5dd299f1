// README.md names the families that can be run: it must be all of them.
#include <gtest/gtest.h>

#include "base/error.h"
#include "golden_file.h"
#include "model/model_spec.h"

namespace lewis {
namespace {

TEST(Readme, ListsTheSupportedModelTypes) {
  const std::string text = file_text(LEWIS_SOURCE "/README.md");
  const std::string begin = "<!-- model types -->\n", end = "\n<!-- end of model types -->";
  const size_t first = text.find(begin), last = text.find(end);
  ASSERT_NE(first, std::string::npos);
  ASSERT_NE(last, std::string::npos);
  std::string list = text.substr(first + begin.size(), last - first - begin.size());
  std::replace(list.begin(), list.end(), '\n', ' ');
  EXPECT_EQ(list, fmt::format("`{}`", fmt::join(supported_model_types(), "`, `")));
}

}  // namespace
}  // namespace lewis
