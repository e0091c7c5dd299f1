// A recipe that is planned again takes its importances from the cache and reads no weights.
#include <gtest/gtest.h>

#include "run_lewis.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

class ImportanceCache : public LewisTest {
 protected:
  ImportanceCache() {
    fs::copy(LEWIS_DEMO "/models/math", expert(), fs::copy_options::recursive);
    std::ofstream(dir_.path / "r.yml")
        << "merge_method: ties\nbase_model: " LEWIS_DEMO "/models/base\nmodels:\n- {model: "
        << expert().string()
        << ", parameters: {weight: 1}}\nlewis:\n  calibration:\n  - {model: " << expert().string()
        << ", data: " LEWIS_DEMO << "/data/math_train.jsonl, format: gsm8k, samples: 3}\n";
  }

  fs::path expert() const { return dir_.path / "expert"; }
  fs::path weights() const { return expert() / "model.safetensors"; }
  std::string plan(const std::string& cache) {
    const lewis::Run run = lewis("plan " + (dir_.path / "r.yml").string() + " --json -q --cache " +
                                 (dir_.path / cache).string());
    EXPECT_EQ(run.code, 0) << run.err;
    return run.out;
  }
  std::vector<fs::path> kept(const std::string& cache) const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(dir_.path / cache)) {
      if (entry.path().string().ends_with(".importances.json")) files.push_back(entry.path());
    }
    return files;
  }
  // Other weights in a file that nothing tells from the one before.
  void change_weights() const {
    const auto time = fs::last_write_time(weights());
    std::string bytes = file_text(weights());
    for (size_t i = bytes.size() / 2; i < bytes.size(); i += 2) bytes[i] ^= 0x55;
    std::ofstream(weights(), std::ios::binary) << bytes;
    fs::last_write_time(weights(), time);
  }
};

TEST_F(ImportanceCache, AnotherPlanReadsNoWeights) {
  const std::string first = plan("cache");
  ASSERT_EQ(kept("cache").size(), 1u);
  EXPECT_EQ(plan("cache"), first);
  change_weights();
  EXPECT_EQ(plan("cache"), first) << "the weights were read again";
  // A damaged file is no importance; then the weights are read, and tell themselves.
  const fs::path file = kept("cache").at(0);
  std::string text = file_text(file);
  const size_t digit = text.find("0.");
  ASSERT_NE(digit, std::string::npos);
  text[digit + 2] = text[digit + 2] == '1' ? '2' : '1';
  std::ofstream(file) << text;
  EXPECT_NE(plan("cache"), first);
  EXPECT_EQ(kept("cache").size(), 1u);
}

TEST_F(ImportanceCache, OtherSettingsAndFilesAreOtherImportances) {
  plan("cache");
  std::ofstream(dir_.path / "r.yml", std::ios::app) << "  importance: task_vector\n";
  plan("cache");
  EXPECT_EQ(kept("cache").size(), 2u);
  fs::last_write_time(weights(), fs::last_write_time(weights()) + std::chrono::seconds(7));
  plan("cache");
  EXPECT_EQ(kept("cache").size(), 3u);
}

}  // namespace
}  // namespace lewis
