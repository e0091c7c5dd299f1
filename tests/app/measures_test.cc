// Numbers by layer and projection, and totals.
#include "app/measures.h"

#include <gtest/gtest.h>

#include <cmath>

#include "app/totals.h"
#include "some_diagnostics.h"

namespace lewis {
namespace {

TEST(Measures, CellsAreSumsOverExpertsOfALayer) {
  MergeDiagnostics d = some_diagnostics(1, 1, "mlp.experts.0");
  TensorDiagnostics other = d.tensors.back();
  other.name = "model.layers.0.mlp.experts.1.down_proj.weight";
  other.models[0].squares = 15;
  other.models[0].base_squares = 300;
  d.tensors.push_back(other);
  const HeatMaps size = diagnostic_measures(d, titles(1))[0];
  const auto row = std::ranges::find(size.projections, "experts.down_proj");
  ASSERT_NE(row, size.projections.end());
  const auto at = static_cast<size_t>(row - size.projections.begin());
  EXPECT_DOUBLE_EQ(size.maps[0].cells[at][0].value(), std::sqrt(16.0 / 400.0));
}

// A language model and a vision tower have layers of the same names.
TEST(Measures, StacksOfLayersAreToldApart) {
  MergeDiagnostics d = some_diagnostics(1, 2);
  const size_t before = diagnostic_measures(d, titles(1))[0].projections.size();
  TensorDiagnostics tower = d.tensors[0];
  tower.name = "vision.layers.0.self_attn.q_proj.weight";
  d.tensors.push_back(tower);
  const auto projections = diagnostic_measures(d, titles(1))[0].projections;
  EXPECT_EQ(projections.size(), before + 1);
  EXPECT_NE(std::ranges::find(projections, "vision.q_proj"), projections.end());
}

TEST(Measures, ManyPairsBecomeOneMap) {
  EXPECT_EQ(diagnostic_measures(some_diagnostics(3, 2), titles(3)).back().maps.size(), 3u);
  const HeatMaps many = diagnostic_measures(some_diagnostics(4, 2), titles(4)).back();
  ASSERT_EQ(many.maps.size(), 1u);
  EXPECT_EQ(many.maps[0].cells[0][0], 0.5) << "1 of 2 that trimming leaves, in all six pairs";
}

TEST(Measures, TotalsAddUpTensors) {
  const DiagnosticTotals t = totals_of(some_diagnostics(2, 3));
  EXPECT_EQ(t.entries, 3 * 5 * 4);
  EXPECT_EQ(t.models[0].changed, 3 * 5 * 4);
  EXPECT_EQ(t.changed_share(0), 1.0);
  EXPECT_NEAR(cosine_of(t, 0, 1), 15 * 0.25 / std::sqrt(5 * 6.0 * 5 * 9.0), 1e-12);
}

TEST(ShortNames, AreAsLongAsNeeded) {
  EXPECT_EQ(short_names({"demo/models/math", "demo/models/code/"}),
            (std::vector<std::string>{"math", "code"}));
  EXPECT_EQ(short_names({"a/math", "b/math"}), (std::vector<std::string>{"a/math", "b/math"}));
}

}  // namespace
}  // namespace lewis
