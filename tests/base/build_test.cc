#include "base/build.h"

#include <gtest/gtest.h>

#include <regex>

namespace lewis {
namespace {

TEST(Build, IsNamedByVersionCommitAndBuildId) {
  EXPECT_TRUE(std::regex_match(lewis_version(), std::regex(R"(\d+\.\d+\.\d+)"))) << lewis_version();
  // "unknown" outside a clone; the linker's build ID is in every test program.
  EXPECT_TRUE(std::regex_match(build_name(), std::regex(R"([-\w.]+\+[0-9a-f]{12})")))
      << build_name();
  EXPECT_EQ(version_and_build(), lewis_version() + " (build " + build_name() + ")");
  EXPECT_EQ(build_name(), build_name());
}

TEST(Build, KnowsTheInstructionSet) { EXPECT_FALSE(instruction_set().empty()); }

}  // namespace
}  // namespace lewis
