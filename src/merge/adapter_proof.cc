#include "merge/adapter_proof.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <span>

#include "base/error.h"
#include "base/human.h"
#include "io/tied_head.h"
#include "merge/common/gram.h"

namespace lewis {
namespace {

constexpr int64_t kPiece = 1 << 14;     // elements that one thread compares at once
constexpr double kHalf = 0.5;           // of a change that is lost: it is not there any more
constexpr double kSlack = 0.02;         // other programs round B A on the way
constexpr double kSameDirection = 0.9;  // the least cosine of "the same change"
constexpr double kSameFactor = 0.05;    // factors closer to 1 are 1

// What the comparison of a tensor adds up, in double. D = stored - base, E = adapted - base, and R
// is what the stored type makes of E.
struct Sums {
  double ee = 0, dd = 0, de = 0, re = 0;
  double error = 0;     // |D - E|^2
  double rounding = 0;  // |R - E|^2
  double inexact = 0;   // |D - R|^2
  double floor = 0;     // |round(base) - base|^2

  void operator+=(const Sums& o) {
    ee += o.ee, dd += o.dd, de += o.de, re += o.re;
    error += o.error, rounding += o.rounding, inexact += o.inexact, floor += o.floor;
  }
};

// Elements [first, first + n) as floats; zeros behind the end of the tensor and where there is
// none.
std::vector<float> floats(const TensorSource& source, const TensorInfo* tensor, int64_t first,
                          int64_t n) {
  std::vector<float> values(static_cast<size_t>(n));
  const int64_t end = tensor ? std::min(first + n, element_count(tensor->shape)) : first;
  if (end <= first) return values;
  std::vector<std::byte> bytes(static_cast<size_t>(end - first) * dtype_size(tensor->dtype));
  source.read(*tensor, first, bytes);
  widen(tensor->dtype, bytes.data(), std::span(values).first(static_cast<size_t>(end - first)));
  return values;
}

constexpr size_t kBlock = 2048;  // elements that stay in the cache while they are compared

using Block = std::array<float, kBlock>;

// The same values as they are after rounding to a type.
void round_to(DType dtype, std::span<const float> values, Block& result) {
  std::array<std::byte, kBlock * sizeof(float)> bytes;
  narrow(values, dtype, bytes.data());
  widen(dtype, bytes.data(), std::span(result).first(values.size()));
}

// out = x - y, entry by entry.
void subtract(const float* x, const float* y, size_t n, Block& out) {
  for (size_t i = 0; i < n; ++i) out[i] = x[i] - y[i];
}

// |x - y|^2
double squared_distance(const float* x, const float* y, size_t n) {
  Block difference;
  subtract(x, y, n, difference);
  return dot_product(difference.data(), difference.data(), n);
}

// Differences are taken in float: of numbers that are near each other they are exact.
Sums compare(std::span<const float> base, std::span<const float> adapted,
             std::span<const float> stored, DType dtype) {
  Block want, plain, e, d, r;
  Sums all;
  for (size_t at = 0; at < base.size(); at += kBlock) {
    const size_t n = std::min(kBlock, base.size() - at);
    const float *b = base.data() + at, *a = adapted.data() + at, *s = stored.data() + at;
    round_to(dtype, {a, n}, want);
    round_to(dtype, {b, n}, plain);
    subtract(a, b, n, e);
    subtract(s, b, n, d);
    subtract(want.data(), b, n, r);
    all += {.ee = dot_product(e.data(), e.data(), n),
            .dd = dot_product(d.data(), d.data(), n),
            .de = dot_product(d.data(), e.data(), n),
            .re = dot_product(r.data(), e.data(), n),
            .error = squared_distance(s, a, n),
            .rounding = squared_distance(want.data(), a, n),
            .inexact = squared_distance(s, want.data(), n),
            .floor = squared_distance(plain.data(), b, n)};
  }
  return all;
}

// A tensor of the three models. `base` is null where an adapter makes the tensor.
struct Compared {
  const TensorInfo *base = nullptr, *adapted = nullptr, *stored = nullptr;
};

class Prover {
 public:
  Prover(const ProofModels& models, Threads& threads) : models_(models), threads_(threads) {
    const HeadTensors found = find_head(models.base.source->tensors());
    if (found.embedding && !found.head) {
      head_ = head_name_beside(found.embedding->name);
      embedding_ = found.embedding;
    }
  }

  // Nothing where the adapter asks for no change and none is there.
  std::optional<AdaptedTensor> prove(const TensorInfo& adapted) const {
    const Compared t = find(adapted);
    AdaptedTensor result{.name = adapted.name};
    if (!t.stored || t.stored->shape != adapted.shape || !is_arithmetic(t.stored->dtype))
      return missing(t, std::move(result));
    const Sums s = sums(*models_.adapted.source, t);
    result.change = std::sqrt(s.ee);
    if (s.ee == 0) {
      // Rounding may come from another type on the way: it is no change.
      if (std::sqrt(s.inexact) <= 4 * std::sqrt(s.floor) || s.dd == 0) return std::nullopt;
      result.verdict = AdapterVerdict::kUnasked;
      result.words = "differs from the base, though the adapter does not change it";
      return result;
    }
    result.error = std::sqrt(s.error / s.ee);
    result.rounding = std::sqrt(s.rounding / s.ee);
    result.factor = s.de / s.ee;
    result.cosine = s.dd > 0 ? s.de / std::sqrt(s.dd * s.ee) : 0;
    judge(t, s, result);
    return result;
  }

 private:
  Compared find(const TensorInfo& adapted) const {
    Compared t{models_.base.source->find(adapted.name), &adapted,
               models_.stored.source->find(adapted.name)};
    if (adapted.name != head_) return t;
    // Head and embeddings are one in the base, and may be one in the result.
    t.base = embedding_;
    if (!t.stored) t.stored = models_.stored.source->find(embedding_->name);
    return t;
  }

  std::optional<AdaptedTensor> missing(const Compared& t, AdaptedTensor result) const {
    if (!t.stored && !is_changed(t)) return std::nullopt;
    if (t.stored && !is_arithmetic(t.stored->dtype) && t.stored->shape == t.adapted->shape)
      return std::nullopt;
    result.verdict = AdapterVerdict::kMissing;
    result.factor = result.cosine = 0;
    result.error = 1;
    result.words = t.stored ? fmt::format("is {}, expected {}", to_string(t.stored->shape),
                                          to_string(t.adapted->shape))
                            : "is missing";
    return result;
  }

  // Whether the adapter changes a tensor that the result does not have.
  bool is_changed(const Compared& t) const {
    const Compared itself{t.base, t.adapted, t.base};
    return !t.base || sums(*models_.adapted.source, itself, models_.base.source.get()).ee > 0;
  }

  // `adapted`: the source of t.adapted. The stored tensor is of `stored`, or of the result.
  Sums sums(const TensorSource& adapted, const Compared& t,
            const TensorSource* stored = nullptr) const {
    const TensorSource& result = stored ? *stored : *models_.stored.source;
    const int64_t count = element_count(t.adapted->shape);
    const auto pieces = static_cast<size_t>((count + kPiece - 1) / kPiece);
    std::vector<Sums> parts(pieces);
    threads_.run(pieces, [&](size_t i) {
      const int64_t first = static_cast<int64_t>(i) * kPiece, n = std::min(kPiece, count - first);
      parts[i] = compare(floats(*models_.base.source, t.base, first, n),
                         floats(adapted, t.adapted, first, n), floats(result, t.stored, first, n),
                         t.stored->dtype);
    });
    Sums all;
    for (const Sums& part : parts) all += part;
    return all;
  }

  void judge(const Compared& t, const Sums& s, AdaptedTensor& r) const {
    // float8 and MXFP4 round by scales of their own: what cannot be told from rounding is taken
    // for it, and the factor decides.
    const bool quantized = models_.stored.quantized != nullptr;
    if (quantized && std::abs(r.factor - 1) <= kSameFactor + r.error / 4)
      r.rounding = std::max(r.rounding, r.error);
    const double inexact = quantized ? 0 : std::sqrt(s.inexact / s.ee);
    const bool is_there =
        inexact <= 2 * r.rounding + kSlack &&
        std::abs(r.factor - (quantized ? 1 : s.re / s.ee)) <= kSameFactor + r.rounding / 4;
    if (is_there && r.rounding >= kHalf) {
      r.verdict = AdapterVerdict::kRounded;
      r.words = fmt::format("lost {:.0f} % of its change by rounding to {}",
                            100 * std::min(1.0, r.rounding), type_of(t));
    } else if (is_there) {
      r.verdict = AdapterVerdict::kProven;
    } else if (std::sqrt(s.dd) <= 2 * std::sqrt(s.floor) + kSlack * r.change) {
      r.verdict = AdapterVerdict::kAbsent;
      r.words = "is that of the base: the adapter is not in it";
    } else if (r.cosine >= kSameDirection && std::abs(r.factor - 1) <= kSameFactor &&
               r.error < kHalf) {
      r.verdict = AdapterVerdict::kCoarse;
      r.words = fmt::format(
          "holds the adapter with an error of {:.1f} %, where {} must lose {:.1f} %: it was merged "
          "in a coarser type",
          100 * r.error, type_of(t), 100 * r.rounding);
    } else if (std::abs(r.cosine) >= kSameDirection) {
      r.verdict = AdapterVerdict::kFactor;
      r.words = words_of_factor(r);
    } else {
      judge_wrong(t, r);
    }
  }

  std::string_view type_of(const Compared& t) const {
    return models_.stored.quantized ? "the quantised type" : dtype_name(t.stored->dtype);
  }

  bool is_factor(double found, double expected) const {
    return std::abs(found - expected) <= kSameFactor * std::abs(expected);
  }

  std::string words_of_factor(const AdaptedTensor& t) const {
    std::string module = t.name;
    if (module.ends_with(".weight")) module.resize(module.size() - 7);
    const double scale = models_.config.scale_of(module);
    const double root = std::sqrt(static_cast<double>(models_.config.rank_of(module)));
    const std::string factor = fmt::format("factor {:.3g}", t.factor);
    if (is_factor(t.factor, 2)) return "holds the adapter applied twice (" + factor + ")";
    if (is_factor(t.factor, -1)) return "has the adapter subtracted (" + factor + ")";
    if (is_factor(t.factor * scale, 1)) {
      return fmt::format("holds the adapter without its scale ({}, 1 / {:.3g})", factor, scale);
    }
    const double other = models_.config.rank_stabilized ? 1 / root : root;
    if (is_factor(t.factor, other)) {
      return fmt::format("holds the adapter scaled as if use_rslora were {} ({})",
                         models_.config.rank_stabilized ? "not set" : "set", factor);
    }
    return "holds the adapter with another strength (" + factor + ")";
  }

  // A change that is not the adapter's as it is meant.
  void judge_wrong(const Compared& t, AdaptedTensor& r) const {
    struct Reading {
      Misreading misreading;
      const char* words;
    };
    static constexpr std::array<Reading, 3> kReadings = {
        {{Misreading::kOtherLayout,
          "holds the adapter with lora_B read in the other layout (of experts: rank and expert "
          "exchanged)"},
         {Misreading::kTransposed, "holds the adapter's product transposed"},
         {Misreading::kNoMagnitude, "holds the adapter without DoRA's magnitudes"}}};
    for (const Reading& reading : kReadings) {
      const auto source = models_.misread ? models_.misread(reading.misreading) : nullptr;
      const TensorInfo* other = source ? source->find(r.name) : nullptr;
      if (!other || other->shape != t.adapted->shape) continue;
      const Sums s = sums(*source, {t.base, other, t.stored});
      if (s.ee == 0 || s.de / std::sqrt(s.ee * s.dd) < kSameDirection) continue;
      r.verdict = AdapterVerdict::kMisread;
      r.words = reading.words;
      return;
    }
    r.verdict = AdapterVerdict::kOther;
    r.words = fmt::format(
        "holds another change (cosine {:.2f}): of another adapter, or of another "
        "base",
        r.cosine);
  }

  const ProofModels& models_;
  Threads& threads_;
  std::string head_;  // of a tied model; else ""
  const TensorInfo* embedding_ = nullptr;
};

bool holds(AdapterVerdict v) {
  return v == AdapterVerdict::kProven || v == AdapterVerdict::kCoarse;
}

// The tensor with the most of something among those that the adapter changes; null: none.
const AdaptedTensor* most(const AdapterProof& proof, double AdaptedTensor::*what) {
  const AdaptedTensor* found = nullptr;
  for (const AdaptedTensor& t : proof.tensors) {
    if (t.verdict == AdapterVerdict::kUnasked || t.change == 0) continue;
    if (!found || t.*what > found->*what) found = &t;
  }
  return found;
}

// Errors are measured in float32, which has seven digits of a weight.
std::string percent(double share) {
  return share < 1e-5 ? "below 0.001 %" : fmt::format("{:.2g} %", 100 * share);
}

// Tensors that say the same are told together.
std::string wrong_tensors(const AdapterProof& proof) {
  struct Group {
    std::string key;
    const AdaptedTensor* first;
    std::vector<std::string> names;
  };
  std::vector<Group> groups;
  for (const AdaptedTensor& t : proof.tensors) {
    if (holds(t.verdict) || t.verdict == AdapterVerdict::kUnasked) continue;
    // Numbers in the words differ from tensor to tensor; the first one's stand for all.
    const std::string key = t.words.substr(0, t.words.find_first_of("0123456789("));
    auto group = std::ranges::find_if(
        groups, [&](const Group& g) { return g.key == key && g.first->verdict == t.verdict; });
    if (group == groups.end()) group = groups.insert(group, {key, &t, {}});
    group->names.push_back(t.name);
  }
  std::string text;
  for (const Group& group : groups) {
    text += fmt::format("{}{} of {} ({}): each {}", text.empty() ? "" : "; ", group.names.size(),
                        proof.changed, some_of(group.names, 3), group.first->words);
  }
  return text;
}

}  // namespace

void prove_tensors(const ProofModels& models, Threads& threads, const ProgressFn& progress,
                   AdapterProof& proof) {
  const Prover prover(models, threads);
  const auto& tensors = models.adapted.source->tensors();
  Progress done{"proving the adapter", "tensors", 0, tensors.size()};
  double changes = 0, errors = 0, roundings = 0;
  for (const TensorInfo& tensor : tensors) {
    if (is_arithmetic(tensor.dtype)) {
      if (auto found = prover.prove(tensor)) {
        const double square = found->change * found->change;
        const bool asked = found->verdict != AdapterVerdict::kUnasked;
        if (asked) ++proof.changed;
        if (holds(found->verdict)) ++proof.proven;
        changes += square;
        errors += asked ? square * found->error * found->error : 0;
        roundings += asked ? square * found->rounding * found->rounding : 0;
        proof.tensors.push_back(std::move(*found));
      }
    }
    ++done.done;
    if (progress) progress(done);
  }
  if (changes > 0) proof.error = std::sqrt(errors / changes);
  if (changes > 0) proof.rounding = std::sqrt(roundings / changes);
  proof.holds = proof.proven == proof.changed;
}

std::vector<std::string> describe_tensors(const AdapterProof& proof, std::string_view type) {
  std::vector<std::string> lines;
  const AdaptedTensor* worst = most(proof, &AdaptedTensor::error);
  if (proof.changed == 0) {
    lines.push_back(fmt::format("{}: the adapter changes nothing: every change is 0", proof.model));
    return lines;
  }
  if (proof.holds) {
    lines.push_back(fmt::format(
        "{}: {} holds the adapter in {} that it changes: relative error {} ({} at "
        "most, {})",
        proof.model, proof.subject,
        proof.changed == 1 ? "the one tensor" : fmt::format("all {} tensors", proof.changed),
        percent(proof.error), percent(worst->error), worst->name));
  } else {
    lines.push_back(fmt::format("{}: {} holds the adapter in {} of {} tensors; {}", proof.model,
                                proof.subject, proof.proven, proof.changed, wrong_tensors(proof)));
  }
  const AdaptedTensor* rounded = most(proof, &AdaptedTensor::rounding);
  if (!rounded) return lines;
  lines.push_back(fmt::format("rounding to {} eats {} of the change ({} at most, {})", type,
                              percent(proof.rounding), percent(rounded->rounding), rounded->name));
  return lines;
}

}  // namespace lewis
