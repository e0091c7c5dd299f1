#include "calibrate/calibrate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>

#include "base/error.h"
#include "golden_file.h"
#include "temp_dir.h"
#include "test_model.h"

namespace lewis {
namespace {

const std::filesystem::path kLlama = LEWIS_TEST_DATA "/golden/families/llama";

using Sequences = std::vector<std::vector<int32_t>>;

Sequences llama_sequences() {
  return golden_sequences(SafetensorsFile(kLlama / "golden.safetensors"));
}

double relative(double found, double expected) {
  return std::abs(found - expected) / std::abs(expected);
}

double largest_difference(const Statistics& a, const Statistics& b) {
  EXPECT_EQ(a.sum_squares.size(), b.sum_squares.size());
  double largest = 0;
  for (const auto& [module, sums] : a.sum_squares) {
    for (size_t j = 0; j < sums.size(); ++j) {
      largest = std::max(largest, relative(sums[j], b.sum_squares.at(module).at(j)));
    }
  }
  return largest;
}

// The largest difference of one entry, relative to it or to a share of the mean if that is more.
double largest_relative(std::span<const double> found, std::span<const double> expected,
                        double share_of_mean = 0) {
  EXPECT_EQ(found.size(), expected.size());
  const double mean =
      std::accumulate(expected.begin(), expected.end(), 0.0) / static_cast<double>(expected.size());
  double largest = 0;
  for (size_t j = 0; j < found.size(); ++j) {
    if (found[j] == expected[j]) continue;
    const double scale = std::max(expected[j], share_of_mean * mean);
    largest = std::max(largest, std::abs(found[j] - expected[j]) / scale);
  }
  return largest;
}

// The same for the routed experts of one block. What an expert gathers from a few tokens is as
// inexact as a single activation is in float32, and an entry may be as small as chance has it:
// transformers' own sums are up to 3e-5 from those in float64.
struct ExpertDifference {
  double many = 0, few = 0;  // experts of at least ten tokens, and of fewer
};
ExpertDifference largest_of_experts(const std::vector<int64_t>& tokens,
                                    const std::vector<double>& found,
                                    const std::vector<double>& expected) {
  EXPECT_EQ(found.size(), expected.size());
  ExpertDifference largest;
  const size_t width = found.size() / tokens.size();
  for (size_t e = 0; e < tokens.size(); ++e) {
    const double d = largest_relative(std::span(found).subspan(e * width, width),
                                      std::span(expected).subspan(e * width, width), 1);
    double& kind = tokens[e] < 10 ? largest.few : largest.many;
    kind = std::max(kind, d);
  }
  return largest;
}

// Golden files have the names that transformers has in memory, not those of the checkpoint.
std::string golden_name(const SafetensorsFile& golden, const std::string& kind,
                        const std::string& module) {
  std::string name = kind + module;
  for (const auto& [stored, in_memory] :
       {std::pair{"language_model.model.", "model.language_model."},
        {"backbone.", "model."},
        {"block_sparse_moe", "mlp"},
        {".model.", ".model.language_model."}}) {  // Qwen 2.5 VL is stored without that level
    const size_t at = name.find(stored);
    if (!golden.find(name) && at != std::string::npos)
      name.replace(at, std::strlen(stored), in_memory);
  }
  return name;
}

class FamilyStatistics : public testing::TestWithParam<std::filesystem::path> {};

TEST_P(FamilyStatistics, AreThoseOfTransformers) {
  const TestModel model(GetParam());
  const SafetensorsFile golden(GetParam() / "golden.safetensors");
  const Sequences sequences = golden_sequences(golden);
  const Statistics found = calibrate(model.transformer, sequences, {});
  EXPECT_EQ(found.tokens, 2 * sequences[0].size());
  EXPECT_EQ(found.sequences, 2u);
  size_t expected_tensors = 0;
  for (const auto& entry : golden.entries()) {
    const std::string& name = entry.info.name;
    // An nn.Linear in Phi-3.5-MoE, Llama 4 and Gemma 4; not measured.
    const bool router = name.ends_with(".router") || name.ends_with(".router.proj");
    expected_tensors +=
        (name.starts_with("sum_squares.") && !router) || name.starts_with("expert_");
  }
  EXPECT_EQ(found.sum_squares.size() + 3 * found.experts.size(), expected_tensors);
  double largest = 0, few = 0;
  for (const auto& [module, sums] : found.sum_squares) {
    const auto expected = read_tensor<double>(golden, golden_name(golden, "sum_squares.", module));
    largest = std::max(largest, largest_relative(sums, expected));
  }
  for (const auto& [module, e] : found.experts) {
    const auto name = [&](const char* kind) { return golden_name(golden, kind, module); };
    EXPECT_EQ(e.tokens, read_tensor<int64_t>(golden, name("expert_tokens.")));
    const auto in = read_tensor<double>(golden, name("expert_in."));
    const auto mid = read_tensor<double>(golden, name("expert_mid."));
    for (const auto& d :
         {largest_of_experts(e.tokens, e.in, in), largest_of_experts(e.tokens, e.mid, mid)}) {
      largest = std::max(largest, d.many);
      few = std::max(few, d.few);
    }
  }
  EXPECT_LT(largest, std::max(1e-5, 2 * float32_noise(GetParam(), "sums")));
  EXPECT_LT(few, 5e-5);
  std::printf(
      "%s: largest relative difference of a sum of squares %.2g; experts of few tokens %.2g\n",
      GetParam().filename().c_str(), largest, few);
}

INSTANTIATE_TEST_SUITE_P(All, FamilyStatistics, testing::ValuesIn(golden_families()),
                         [](const auto& folder) { return folder.param.filename().string(); });

std::filesystem::path family(const char* name) {
  return std::filesystem::path(LEWIS_TEST_DATA "/golden/families") / name;
}

TEST(Calibrate, SameBitsForAnyNumberOfThreads) {
  const Sequences sequences = llama_sequences();
  for (const char* name : {"llama", "phi3", "qwen2_moe"}) {
    for (Protocol protocol : {Protocol::kClean, Protocol::kReference}) {
      CalibrateOptions options;
      options.protocol = protocol;
      const TestModel one(family(name), 1);
      const Statistics expected = calibrate(one.transformer, sequences, options);
      for (size_t threads : {2u, 7u}) {
        const TestModel model(family(name), threads);
        const Statistics found = calibrate(model.transformer, sequences, options);
        EXPECT_EQ(found.sum_squares, expected.sum_squares) << name << threads << " threads";
        EXPECT_EQ(found.experts, expected.experts) << name << threads << " threads";
      }
    }
  }
}

TEST(Calibrate, EveryTokenIsCountedAtEveryExpertThatItGoesTo) {
  const TestModel model(family("qwen2_moe"));
  const Sequences sequences = llama_sequences();
  CalibrateOptions skip, apart;
  skip.skip_first = 1;
  apart.rows_per_group = 96;
  const auto total = [](const Statistics& s, const std::string& module) {
    const auto& tokens = s.experts.at(module).tokens;
    return std::accumulate(tokens.begin(), tokens.end(), int64_t{0});
  };
  const Statistics all = calibrate(model.transformer, sequences, {});
  const Statistics rest = calibrate(model.transformer, sequences, skip);
  const Statistics grouped = calibrate(model.transformer, sequences, apart);
  EXPECT_EQ(all.experts.size(), 2u);  // layers 1 and 3
  for (const auto& [module, e] : all.experts) {
    EXPECT_EQ(total(all, module), 2 * 192);
    EXPECT_EQ(total(rest, module), 2 * 190);
    EXPECT_EQ(grouped.experts.at(module).tokens, e.tokens);
  }
}

// Without pruning no block is another than the clean one, experts neither.
TEST(Calibrate, ReferenceOfExpertsWithoutPruningIsClean) {
  const TestModel model(family("qwen2_moe"));
  CalibrateOptions none, half;
  none.protocol = half.protocol = Protocol::kReference;
  none.sparsity = 0;
  const Statistics clean = calibrate(model.transformer, llama_sequences(), {});
  EXPECT_EQ(calibrate(model.transformer, llama_sequences(), none).experts, clean.experts);
  EXPECT_NE(calibrate(model.transformer, llama_sequences(), half).experts, clean.experts);
}

TEST(Statistics, AFileHoldsExpertsAndParts) {
  const TempDir dir;
  const std::filesystem::path file = dir.path / "s.safetensors";
  Statistics s;
  s.tokens = 7;
  s.sequences = 2;
  s.sum_squares["a.qkv_proj"] = {1, 2, 3};
  s.experts["a.mlp.experts"] = {{4, 0}, {1, 2, 0, 0}, {5, 6, 7, 0, 0, 0}};
  s.fused["qkv_proj"] = {{"q_proj", 4}, {"k_proj", 2}, {"v_proj", 2}};
  s.origin["model"] = "m";
  write_statistics(file, s);
  const Statistics found = read_statistics(file);
  EXPECT_EQ(found.sum_squares, s.sum_squares);
  EXPECT_EQ(found.experts, s.experts);
  EXPECT_EQ(found.fused, s.fused);
  EXPECT_EQ(found.origin, s.origin);
  EXPECT_EQ(found.tokens, 7u);

  s.experts["a.mlp.experts"].mid.clear();
  write_statistics(file, s);
  EXPECT_THROW(read_statistics(file), Error);
  s.experts.clear();
  s.experts["a.mlp.experts"] = {{4, -1}, {1, 2}, {1, 2}};
  write_statistics(file, s);
  EXPECT_THROW(read_statistics(file), Error);
}

TEST(Statistics, PartsOfFusedWeightsAreKept) {
  const TestModel model(family("phi3"));
  const Statistics s = calibrate(model.transformer, llama_sequences(), {});
  const std::map<std::string, std::vector<FusedPart>> expected = {
      {"qkv_proj", {{"q_proj", 64}, {"k_proj", 32}, {"v_proj", 32}}},
      {"gate_up_proj", {{"gate_proj", 112}, {"up_proj", 112}}}};
  EXPECT_EQ(s.fused, expected);
}

TEST(Calibrate, CleanSumsOfTwoSetsAddUp) {
  const TestModel model(kLlama);
  const Sequences sequences = llama_sequences();
  const auto all = std::span(sequences);
  const Statistics both = calibrate(model.transformer, all, {});
  Statistics sum = calibrate(model.transformer, all.first(1), {});
  const Statistics second = calibrate(model.transformer, all.last(1), {});
  for (auto& [module, sums] : sum.sum_squares) {
    for (size_t j = 0; j < sums.size(); ++j) sums[j] += second.sum_squares.at(module)[j];
  }
  EXPECT_EQ(both.tokens, 192u);
  // Sums in another order: nothing but the rounding of doubles and of the matrix multiplication.
  EXPECT_LT(largest_difference(both, sum), 1e-6);
}

TEST(Calibrate, GroupingDoesNotMatter) {
  const TestModel model(kLlama);
  const Sequences sequences = llama_sequences();
  for (Protocol protocol : {Protocol::kClean, Protocol::kReference}) {
    CalibrateOptions together, apart;
    together.protocol = apart.protocol = protocol;
    apart.rows_per_group = 96;
    const Statistics a = calibrate(model.transformer, sequences, together);
    const Statistics b = calibrate(model.transformer, sequences, apart);
    EXPECT_LT(largest_difference(a, b), 1e-12);
  }
}

// 40 sequences of 1 to 96 tokens: some pieces have two of them.
Sequences many_sequences() {
  const Sequences long_ones = llama_sequences();
  Sequences all;
  for (size_t i = 0; i < 40; ++i) {
    const auto& from = long_ones[i % 2];
    const size_t size = 1 + (i * 29) % from.size();
    all.emplace_back(from.begin(), from.begin() + static_cast<ptrdiff_t>(size));
  }
  return all;
}

// The sums of all pieces, which `parts` workers have measured.
Statistics joined(const TestModel& model, const Sequences& sequences, size_t parts,
                  const CalibrateOptions& options) {
  const std::vector<size_t> pieces = calibration_pieces(sequences.size());
  const size_t count = pieces.size() - 1;
  std::optional<Statistics> sum;
  for (size_t part = 0; part < parts; ++part) {
    const size_t first = count * part / parts, last = count * (part + 1) / parts;
    if (first == last) continue;
    std::vector<size_t> own;
    for (size_t piece = first; piece <= last; ++piece) own.push_back(pieces[piece] - pieces[first]);
    for (Statistics& piece :
         calibrate_pieces(model.transformer,
                          std::span(sequences).subspan(pieces[first], pieces[last] - pieces[first]),
                          own, options)) {
      if (sum) {
        add_piece(*sum, piece);
      } else {
        sum = std::move(piece);
      }
    }
  }
  return *sum;
}

TEST(Calibrate, PiecesCoverAllSequencesInOrder) {
  for (const size_t sequences : {1, 2, 31, 32, 33, 40, 64, 1000}) {
    const std::vector<size_t> pieces = calibration_pieces(sequences);
    EXPECT_EQ(pieces.size(), std::min<size_t>(sequences, 32) + 1);
    EXPECT_EQ(pieces.front(), 0u);
    EXPECT_EQ(pieces.back(), sequences);
    for (size_t i = 1; i < pieces.size(); ++i) EXPECT_LT(pieces[i - 1], pieces[i]);
  }
}

TEST(Calibrate, PiecesOfAnyNumberOfWorkersHaveTheBitsOfOneProcess) {
  const Sequences sequences = many_sequences();
  for (const char* name : {"llama", "qwen2_moe", "phi3"}) {
    for (const ComputeType type : {ComputeType::kF32, ComputeType::kBF16}) {
      CalibrateOptions options;
      options.magnitudes = true;
      const TestModel model(family(name), 2, type), other(family(name), 5, type);
      const Statistics expected = calibrate(model.transformer, sequences, options);
      CalibrateOptions small = options;
      small.rows_per_group = 96;
      EXPECT_EQ(calibrate(other.transformer, sequences, small).sum_squares, expected.sum_squares);
      for (const size_t parts : {1, 2, 3, 8, 64}) {
        const Statistics found = joined(parts == 3 ? other : model, sequences, parts, options);
        EXPECT_EQ(found.sum_squares, expected.sum_squares) << name << parts;
        EXPECT_EQ(found.sum_magnitudes, expected.sum_magnitudes) << name << parts;
        EXPECT_EQ(found.experts, expected.experts) << name << parts;
        EXPECT_EQ(found.fused, expected.fused) << name << parts;
        EXPECT_EQ(found.tokens, expected.tokens);
        EXPECT_EQ(found.sequences, expected.sequences);
      }
    }
  }
}

TEST(Calibrate, TheReferenceProtocolHasNoPieces) {
  const TestModel model(kLlama);
  CalibrateOptions reference;
  reference.protocol = Protocol::kReference;
  EXPECT_THROW(calibrate_pieces(model.transformer, many_sequences(), {0, 40}, reference), Error);
}

TEST(Calibrate, Bf16IsCloseToF32AndTheSameForAnyThreads) {
  const Sequences sequences = llama_sequences();
  const Statistics exact = calibrate(TestModel(kLlama).transformer, sequences, {});
  std::vector<Statistics> found;
  for (const size_t threads : {1, 2, 7}) {
    const TestModel model(kLlama, threads, ComputeType::kBF16);
    found.push_back(calibrate(model.transformer, sequences, {}));
    EXPECT_TRUE(found.back().sum_squares == found.front().sum_squares) << threads;
  }
  const double difference = largest_difference(found[0], exact);
  EXPECT_LT(difference, 0.05);
  EXPECT_GT(difference, 1e-5);  // it is another computation
}

TEST(Calibrate, LittleMemoryMeansMorePassesAndTheSameBits) {
  const TestModel model(kLlama);
  const Sequences sequences = {{5, 9, 17}, {30, 2, 8, 1}, {7}, {11, 12}, {3, 4, 5, 6}};
  const Statistics expected = calibrate(model.transformer, sequences, {});
  const uint64_t row = static_cast<uint64_t>(model.transformer.spec().hidden) * sizeof(float);
  CalibrateOptions options;
  options.max_memory = 1;
  uint64_t least = 0;
  try {
    calibration_memory(model.transformer, sequences, options);
    FAIL() << "one byte was enough";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kResource);
    const std::string text = e.what();
    least = std::stoull(text.substr(text.find("at least ") + 9));
  }
  for (const auto& [more, passes] : {std::pair{0u, 4u}, {2u, 3u}, {4u, 2u}, {10u, 1u}}) {
    options.max_memory = least + more * row;
    const auto memory = calibration_memory(model.transformer, sequences, options);
    EXPECT_EQ(memory.passes.size(), passes) << more;
    EXPECT_LE(memory.bytes, options.max_memory);
    const Statistics found = calibrate(model.transformer, sequences, options);
    EXPECT_TRUE(found.sum_squares == expected.sum_squares) << more;
    EXPECT_EQ(found.tokens, expected.tokens);
  }
  options.max_memory = least - 1;
  EXPECT_THROW(calibrate(model.transformer, sequences, options), Error);
}

// A causal model: leaving out the first tokens is the sum over all less that over the first alone.
TEST(Calibrate, SkipsTheFirstTokensOfEachSequence) {
  const TestModel model(kLlama);
  const Sequences whole = {{5, 9, 17, 3}, {30, 2, 8, 1, 7}};
  const Statistics all = calibrate(model.transformer, whole, {});
  for (const size_t count : {1u, 2u, 3u}) {
    Sequences first = whole;
    for (auto& ids : first) ids.resize(count);
    CalibrateOptions skip;
    skip.skip_first = count;
    const Statistics heads = calibrate(model.transformer, first, {});
    const Statistics rest = calibrate(model.transformer, whole, skip);
    EXPECT_EQ(rest.tokens, 9 - 2 * count);
    for (const auto& [module, sums] : rest.sum_squares) {
      for (size_t j = 0; j < sums.size(); ++j) {
        const double expected = all.sum_squares.at(module)[j] - heads.sum_squares.at(module)[j];
        EXPECT_NEAR(sums[j], expected, 1e-5 * all.sum_squares.at(module)[j]) << module;
      }
    }
    skip.skip_first = 4;
    EXPECT_THROW(calibrate(model.transformer, whole, skip), Error)
        << "nothing of the first is left";
  }
}

TEST(Calibrate, QueriesKeysAndValuesShareTheirInput) {
  const TestModel model(kLlama);
  const Statistics s = calibrate(model.transformer, llama_sequences(), {});
  const auto of = [&](const char* name) {
    return s.sum_squares.at(std::string("model.layers.1.") + name);
  };
  EXPECT_EQ(of("self_attn.q_proj"), of("self_attn.k_proj"));
  EXPECT_EQ(of("self_attn.q_proj"), of("self_attn.v_proj"));
  EXPECT_EQ(of("mlp.gate_proj"), of("mlp.up_proj"));
  EXPECT_NE(of("self_attn.q_proj"), of("mlp.up_proj"));
}

// The first block is not yet touched by pruning; without pruning no block is.
TEST(Calibrate, ReferenceRunsThePrunedPrefix) {
  const TestModel model(kLlama);
  const Sequences sequences = llama_sequences();
  CalibrateOptions half, none;
  half.protocol = none.protocol = Protocol::kReference;
  none.sparsity = 0;
  const Statistics clean = calibrate(model.transformer, sequences, {});
  const Statistics pruned = calibrate(model.transformer, sequences, half);
  const Statistics unpruned = calibrate(model.transformer, sequences, none);
  EXPECT_EQ(unpruned.sum_squares, clean.sum_squares);
  EXPECT_EQ(unpruned.divisor(), 2);
  EXPECT_EQ(clean.divisor(), 192);
  const auto is_first = [](const std::string& m) { return m.starts_with("model.layers.0."); };
  for (const auto& [module, sums] : pruned.sum_squares) {
    EXPECT_EQ(sums == clean.sum_squares.at(module), is_first(module)) << module;
  }
}

TEST(Calibrate, TellsItsProgress) {
  const TestModel model(kLlama);
  for (Protocol protocol : {Protocol::kClean, Protocol::kReference}) {
    uint64_t last = 0;
    const uint64_t total = 192u * static_cast<uint64_t>(model.transformer.spec().layers);
    CalibrateOptions options;
    options.protocol = protocol;
    options.rows_per_group = 96;
    options.progress = [&](const Progress& p) {
      EXPECT_EQ(p.total, total);
      EXPECT_GT(p.done, last);
      last = p.done;
    };
    calibrate(model.transformer, llama_sequences(), options);
    EXPECT_EQ(last, total);
  }
}

TEST(Calibrate, RefusesWhatCannotBeRun) {
  const TestModel model(kLlama);
  const auto& t = model.transformer;
  const Sequences none, empty = {{1, 2}, {}}, alone = {{1}}, foreign = {{1, 1'000'000}};
  const Sequences long_one = {
      std::vector<int32_t>(static_cast<size_t>(t.spec().max_positions) + 1)};
  EXPECT_THROW(calibrate(t, none, {}), Error);
  EXPECT_THROW(calibrate(t, empty, {}), Error);
  EXPECT_THROW(calibrate(t, foreign, {}), Error);
  EXPECT_THROW(calibrate(t, long_one, {}), Error);
  CalibrateOptions skip, sparse;
  skip.skip_first = 1;
  EXPECT_THROW(calibrate(t, alone, skip), Error);
  skip.protocol = Protocol::kReference;
  EXPECT_THROW(calibrate(t, llama_sequences(), skip), Error);
  sparse.sparsity = 1.5;
  EXPECT_THROW(calibrate(t, llama_sequences(), sparse), Error);
}

}  // namespace
}  // namespace lewis
