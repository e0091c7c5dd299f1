#include "base/markdown.h"

#include <gtest/gtest.h>

namespace lewis {
namespace {

TEST(Markdown, UsualNamesStay) {
  for (const char* name : {"Qwen/Qwen2.5-0.5B", "models/my_merge-v1", "../out", "/data/a.b",
                           "org/model@refs+lora", "模型", "Licence: not derived. (2.)"})
    EXPECT_EQ(markdown_text(name), name);
}

TEST(Markdown, NothingIsMarkup) {
  EXPECT_EQ(markdown_text("a\n# b"), "a\\\\n\\# b") << "one line";
  EXPECT_EQ(markdown_text("<img src=x>"), "\\<img src=x\\>");
  EXPECT_EQ(markdown_text("[x](http://e)"), "\\[x\\](http\\://e)");
  EXPECT_EQ(markdown_text("*a* `b` _c_ ~~d~~ |e| &amp; !"),
            "\\*a\\* \\`b\\` \\_c\\_ \\~\\~d\\~\\~ \\|e\\| \\&amp\\; \\!");
  EXPECT_EQ(markdown_text("- a"), "\\- a");
  EXPECT_EQ(markdown_text("  + a"), "  \\+ a");
  EXPECT_EQ(markdown_text("1. a"), "1\\. a");
  EXPECT_EQ(markdown_text(" 12) a"), " 12\\) a");
  EXPECT_EQ(markdown_text("a\x1b\u202e"), "a\\\\u\\{1b\\}\\\\u\\{202e\\}");
}

}  // namespace
}  // namespace lewis
