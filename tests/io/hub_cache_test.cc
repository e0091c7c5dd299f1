#include "io/hub_cache.h"

#include <gtest/gtest.h>

#include "raw_file.h"
#include "scoped_env.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// A cache as huggingface_hub makes it.
class HubCache : public testing::Test {
 protected:
  HubCache() {
    for (const char* commit : {"aaa", "bbb", "ccc", "ddd"}) {
      write_raw(dir_.path / "models--owner--name/snapshots" / commit / "config.json", "{}");
      write_raw(dir_.path / "models--gpt2/snapshots" / commit / "config.json", "{}");
    }
    for (const char* model : {"models--owner--name", "models--gpt2"}) {
      write_raw(dir_.path / model / "refs/main", "aaa");
      write_raw(dir_.path / model / "refs/feature/x", "bbb");
      write_raw(dir_.path / model / "refs/refs/pr/7", "ccc\n");
    }
  }

  std::string found(const std::string& id) {
    const auto folder = find_in_hub_cache(id);
    return folder ? folder->lexically_relative(dir_.path).string() : "";
  }

  TempDir dir_;
  ScopedEnv cache_{"HF_HUB_CACHE", dir_.path.string()};
};

TEST_F(HubCache, EveryKindOfRevision) {
  for (const auto& [id, folder] :
       {std::pair("owner/name", "models--owner--name"), std::pair("gpt2", "models--gpt2")}) {
    const auto snapshot = [&](const char* commit) {
      return std::string(folder) + "/snapshots/" + commit;
    };
    const std::string name = id;
    EXPECT_EQ(found(name), snapshot("aaa"));
    EXPECT_EQ(found(name + "@main"), snapshot("aaa"));
    EXPECT_EQ(found(name + "@feature/x"), snapshot("bbb"));
    EXPECT_EQ(found(name + "@refs/pr/7"), snapshot("ccc"));
    EXPECT_EQ(found(name + "@ddd"), snapshot("ddd"));
    EXPECT_EQ(found(name + "@none"), "");
    EXPECT_EQ(found(name + "@refs/pr/8"), "");
  }
}

TEST_F(HubCache, IdsStayInTheCache) {
  write_raw(dir_.path / "models--owner--name/refs/out", "../../../models--gpt2/snapshots/aaa");
  for (const char* id : {"", "/", "a/", "/name", "a/b/c", "../name", "owner/..", "owner/name@",
                         "owner/name@/main", "owner/name@a//b", "owner/name@../refs/main",
                         "owner/name@feature/../../refs/main", "owner/name@out", "gpt2@x@y"}) {
    EXPECT_EQ(found(id), "") << id;
  }
}

TEST_F(HubCache, NamesOfFilesAreNoIds) {
  for (const char* name : {"math.gguf", "models/math.gguf", "recipe.yml", "model.safetensors"})
    EXPECT_FALSE(is_hub_id(name)) << name;
  for (const char* name : {"math-GGUF", "owner/math.gguf-v2", "gpt2", "owner/name@v1.yml"})
    EXPECT_TRUE(is_hub_id(name)) << name;
}

TEST_F(HubCache, TheVariablesOfHuggingFacesTools) {
  const std::string here = dir_.path.string();
  EXPECT_EQ(hub_cache_folder(), here);
  const ScopedEnv none("HF_HUB_CACHE", "");
  {
    const ScopedEnv older("HUGGINGFACE_HUB_CACHE", here);
    const ScopedEnv home("HF_HOME", "/elsewhere");
    EXPECT_EQ(hub_cache_folder(), here);
  }
  const ScopedEnv no_older("HUGGINGFACE_HUB_CACHE", "");
  {
    const ScopedEnv home("HF_HOME", here);
    const ScopedEnv xdg("XDG_CACHE_HOME", "/elsewhere");
    EXPECT_EQ(hub_cache_folder(), here + "/hub");
  }
  const ScopedEnv no_home("HF_HOME", "");
  const ScopedEnv xdg("XDG_CACHE_HOME", here);
  EXPECT_EQ(hub_cache_folder(), here + "/huggingface/hub");
}

}  // namespace
}  // namespace lewis
