#include "io/model_folder.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "raw_file.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

using Names = std::vector<std::string>;

// The files of real repositories: Gemma 3, Qwen2-VL, Whisper, bge-m3, Qwen-7B, Mistral.
const Names kTokenizer = {"additional_chat_templates/tool_use.jinja",
                          "chat_template.json",
                          "merges.txt",
                          "normalizer.json",
                          "qwen.tiktoken",
                          "sentencepiece.bpe.model",
                          "spiece.model",
                          "tekken.json",
                          "tokenizer.json",
                          "tokenizer.model.v3",
                          "tokenizer_config.json",
                          "vocab.json"};
const Names kProcessor = {"1_Pooling/config.json",
                          "config_sentence_transformers.json",
                          "modules.json",
                          "preprocessor_config.json",
                          "processor_config.json",
                          "sentence_bert_config.json",
                          "video_preprocessor_config.json"};
const Names kLeft = {"consolidated.safetensors", "modeling_custom.py", "onnx/model.onnx",
                     "pytorch_model.bin"};

class ModelFolder : public testing::Test {
 protected:
  ModelFolder() {
    for (const Names* names : {&kTokenizer, &kProcessor, &kLeft}) {
      for (const std::string& name : *names) write_raw(dir_.path / name, name);
    }
    for (const char* name :
         {"config.json", "generation_config.json", "model.safetensors.index.json",
          "model-00001-of-00001.safetensors", "README.md", "LICENSE", ".gitattributes",
          ".git/modeling.py", "lewis_run.json"})
      write_raw(dir_.path / name, "{}");
  }

  TempDir dir_;
};

TEST_F(ModelFolder, TokenizersAndProcessorsAreCopiedAndTheRestIsNamed) {
  Names all = kTokenizer;
  all.insert(all.end(), kProcessor.begin(), kProcessor.end());
  std::ranges::sort(all);
  const Companions with = companions_of(ModelFiles(dir_.path), true);
  EXPECT_EQ(with.copied, all);
  ASSERT_EQ(with.notes.size(), 1u);
  EXPECT_NE(with.notes[0].find(
                "consolidated.safetensors, modeling_custom.py, onnx/model.onnx, pytorch_model.bin"),
            std::string::npos)
      << with.notes[0];
  EXPECT_EQ(with.notes[0].find("auto_map"), std::string::npos);
  EXPECT_EQ(companions_of(ModelFiles(dir_.path), false).copied, kProcessor);
  EXPECT_EQ(tokenizer_files_of(ModelFiles(dir_.path)), kTokenizer);
}

TEST_F(ModelFolder, CodeThatTheModelNeedsIsSaid) {
  write_raw(dir_.path / "config.json", R"({"auto_map": {"AutoModel": "modeling_custom.X"}})");
  const Companions found = companions_of(ModelFiles(dir_.path), true);
  ASSERT_EQ(found.notes.size(), 1u);
  EXPECT_NE(found.notes[0].find("auto_map"), std::string::npos) << found.notes[0];
}

TEST_F(ModelFolder, ChangedFilesCount) {
  ModelFiles files(dir_.path, {{"tokenizer.json", std::nullopt}, {"vocab.txt", "new"}});
  const Companions found = companions_of(files, true);
  EXPECT_EQ(std::ranges::count(found.copied, "tokenizer.json"), 0);
  EXPECT_EQ(std::ranges::count(found.copied, "vocab.txt"), 1);
}

TEST_F(ModelFolder, AFolderOfOneModelHasNoNote) {
  for (const std::string& name : kLeft) fs::remove(dir_.path / name);
  EXPECT_TRUE(companions_of(ModelFiles(dir_.path), true).notes.empty());
}

TEST_F(ModelFolder, InnerNames) {
  for (const char* name : {"a", "a/b", "a.b", "..a", "a../b"}) EXPECT_TRUE(is_inner_name(name));
  for (const char* name : {"", "/", "/a", "a/", "a//b", "..", "../a", "a/..", "a/../b", "."})
    EXPECT_FALSE(is_inner_name(name)) << name;
}

}  // namespace
}  // namespace lewis
