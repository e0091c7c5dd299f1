// Names of enumerations: there and back, and what is said of unknown ones.
#include "base/enum_names.h"

#include <gtest/gtest.h>

#include <set>

#include "base/data_format.h"
#include "base/protocol.h"

namespace lewis {
namespace {

template <typename E>
void expect_there_and_back(size_t count) {
  std::set<std::string_view> names;
  for (const EnumName<E>& row : kEnumNames<E>) {
    EXPECT_EQ(name_of(row.value), row.name);
    EXPECT_EQ(find_value_of<E>(row.name), row.value);
    names.insert(row.name);
  }
  EXPECT_EQ(names.size(), count);
  EXPECT_EQ(names_of<E>().size(), count);
}

TEST(EnumNames, ThereAndBack) {
  expect_there_and_back<Protocol>(2);
  expect_there_and_back<DataFormat>(7);
}

TEST(EnumNames, UnknownOnesAreNamedWithTheNearest) {
  EXPECT_EQ(find_value_of<Protocol>("Clean"), std::nullopt);
  try {
    value_of<Protocol>("claen", "--protocol");
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(
        e.what(),
        "--protocol 'claen' is not known; did you mean 'clean'? (known: clean, reference)");
  }
}

}  // namespace
}  // namespace lewis
