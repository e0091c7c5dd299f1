// A model folder with a tokenizer and nothing else, made of the demo's.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "temp_dir.h"

namespace lewis {

inline const std::filesystem::path kDemoModel =
    std::filesystem::path(LEWIS_DEMO) / "models" / "base";

inline void write_file(const std::filesystem::path& file, std::string_view bytes) {
  std::ofstream(file, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

struct ModelFolder : TempDir {
  Json tokenizer = read_json(kDemoModel / "tokenizer.json");
  Json config = read_json(kDemoModel / "tokenizer_config.json");

  // Writes what stands in the members.
  void write() const {
    write_file(path / "tokenizer.json", tokenizer.dump());
    write_file(path / "tokenizer_config.json", config.dump());
  }
  // Llama's habit: BOS before every text. `bos` must be in the vocabulary.
  void add_bos(const std::string& bos, int id) {
    tokenizer["post_processor"] = Json::parse(R"({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "BOS", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]})");
    tokenizer["post_processor"]["single"][0]["SpecialToken"]["id"] = bos;
    tokenizer["post_processor"]["special_tokens"][bos] = {
        {"id", bos}, {"ids", {id}}, {"tokens", {bos}}};
    config["bos_token"] = bos;
  }
};

inline testing::AssertionResult contains(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "expected '" << part << "' in: " << text.substr(0, 500);
}

// The message of the Error that `f` throws; "" and a wrong code when it throws none.
template <typename F>
std::string error_of(F&& f, ExitCode expected = ExitCode::kInput) {
  try {
    f();
  } catch (const Error& error) {
    return error.code() == expected ? error.what()
                                    : std::string("wrong exit code: ") + error.what();
  }
  return "no error";
}

}  // namespace lewis
