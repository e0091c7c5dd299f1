#include "io/compare.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "io/checkpoint.h"
#include "temp_dir.h"

namespace lewis {
namespace {

class Compare : public testing::Test {
 protected:
  void write(const char* name, const std::vector<float>& values) {
    std::filesystem::create_directories(dir_.path / name);
    const std::vector<std::span<const std::byte>> data = {std::as_bytes(std::span(values))};
    write_safetensors(dir_.path / name / "model.safetensors",
                      {{"w", DType::kF32, {static_cast<int64_t>(values.size())}}}, data, {});
  }
  TempDir dir_;
};

TEST_F(Compare, IsThePlainFormulaOverAllPieces) {
  std::vector<float> a(600000), b(a.size());
  double na = 0, nb = 0, nd = 0, dot = 0, equal = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    a[i] = std::sin(static_cast<float>(i));
    b[i] = i % 3 ? a[i] : a[i] + 0.01f;
    const double x = a[i], y = b[i];
    na += x * x;
    nb += y * y;
    nd += (y - x) * (y - x);
    dot += x * y;
    equal += x == y;
  }
  write("a", a);
  write("b", b);
  const Checkpoint ca = Checkpoint::open(dir_.path / "a"), cb = Checkpoint::open(dir_.path / "b");
  for (const size_t count : {1, 3}) {
    Threads threads(count);
    const TensorDifference d = compare_tensors(ca, cb, "w", 0, threads);
    EXPECT_NEAR(d.relative(), std::sqrt(nd / na), 1e-12);
    EXPECT_NEAR(d.cosine(), dot / std::sqrt(na * nb), 1e-12);
    EXPECT_EQ(d.equal, static_cast<int64_t>(equal));
    EXPECT_EQ(compare_tensors(ca, cb, "w", 1000, threads).count, 1000);
    EXPECT_EQ(compare_tensors(ca, ca, "w", 0, threads).equal_share(), 1);
  }
}

TEST_F(Compare, SummaryCountsWhatIsNotFinite) {
  write("a", {0, 1, -3, NAN, INFINITY, 0});
  Threads threads(2);
  const Checkpoint c = Checkpoint::open(dir_.path / "a");
  const TensorSummary s = summarize(c, c.get("w"), threads);
  EXPECT_EQ(s.not_finite, 2);
  EXPECT_EQ(s.zeros, 2);
  EXPECT_EQ(s.min, -3);
  EXPECT_EQ(s.max, 1);
  EXPECT_DOUBLE_EQ(s.mean, -0.5);
  EXPECT_DOUBLE_EQ(s.deviation, std::sqrt(10.0 / 4 - 0.25));
}

}  // namespace
}  // namespace lewis
