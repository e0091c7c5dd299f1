// Calibration, comparison and importance matrices of a mixer that src/ knows nothing of.
#include <gtest/gtest.h>

#include <map>

#include "../model/echo_model.h"
#include "calibrate/calibrate.h"
#include "calibrate/imatrix.h"
#include "calibrate/output_change.h"

namespace lewis {
namespace {

using Sequences = std::vector<std::vector<int32_t>>;

const Sequences kText = {{1, 2, 3, 4, 5}, {6, 7, 8}};

// Sums of the squares that run_block taps, for every linear layer.
TEST(MixerCalibration, MeasuresEveryLinearLayer) {
  const EchoModel echo;
  const Statistics found = calibrate(echo.model, kText, {});
  const TokenBatch batch = make_batch(kText);
  std::vector<float> hidden(batch.ids.size() * 24);
  echo.model.embed(batch.ids, hidden);
  size_t layers = 0;
  for (int64_t layer = 0; layer < echo.random.spec.layers; ++layer) {
    std::map<Value, std::vector<double>> sums;
    echo.model.run_block(*echo.model.load_block(layer), batch.sequences, hidden,
                         [&](const Tapped& t) {
                           auto& s = sums[t.value];
                           s.resize(static_cast<size_t>(t.x.columns));
                           for (int64_t r = 0; r < t.x.rows; ++r) {
                             for (size_t j = 0; j < s.size(); ++j)
                               s[j] += static_cast<double>(t.x.row(r)[j]) * t.x.row(r)[j];
                           }
                         });
    for (const LinearLayer& linear : linear_layers(echo.random.spec, layer)) {
      const auto& squares = found.sum_squares.at(linear.module);
      ASSERT_EQ(squares.size(), static_cast<size_t>(linear.in)) << linear.name;
      for (size_t j = 0; j < squares.size(); ++j)
        EXPECT_NEAR(squares[j] / sums.at(linear.input)[j], 1, 1e-9) << linear.name;
      ++layers;
    }
  }
  EXPECT_EQ(found.sum_squares.size(), layers);
}

TEST(MixerCalibration, ReferenceProtocolPrunesItsLayersToo) {
  const EchoModel echo;
  const Statistics clean = calibrate(echo.model, kText, {});
  const Statistics pruned = calibrate(echo.model, kText, {.protocol = Protocol::kReference});
  const std::string first = "model.layers.0.self_attn.o_proj";
  EXPECT_EQ(clean.sum_squares.at(first), pruned.sum_squares.at(first));
  const std::string later = "model.layers.2.self_attn.o_proj";
  EXPECT_NE(clean.sum_squares.at(later), pruned.sum_squares.at(later));
}

TEST(MixerCalibration, ComparesOutputs) {
  const EchoModel base, expert;
  for (const auto& [name, change] :
       output_changes(base.model, expert.model, *base.backend, kText, {}).output_changes) {
    EXPECT_EQ(change.changed, 0) << name;
    EXPECT_GT(change.base, 0) << name;
    EXPECT_EQ(change.tokens, 8) << name;
  }
}

TEST(MixerCalibration, IsWrittenAsImportanceMatrix) {
  const EchoModel echo;
  const Statistics statistics = calibrate(echo.model, kText, {});
  const auto file = echo.random.dir.path / "echo.gguf";
  write_imatrix(file, statistics);
  const Statistics read = read_imatrix(file, echo.checkpoint);
  ASSERT_EQ(read.sum_squares.size(), statistics.sum_squares.size());
  for (const auto& [module, sums] : statistics.sum_squares) {
    for (size_t j = 0; j < sums.size(); ++j)
      EXPECT_NEAR(read.sum_squares.at(module)[j] / sums[j], 1, 1e-6) << module;
  }
}

}  // namespace
}  // namespace lewis
