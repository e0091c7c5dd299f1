#include "recipe/averages.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace lewis {

std::vector<size_t> Window::of(size_t count) const {
  if (first.value_or(0) > count || last.value_or(0) > count) return {};
  const size_t begin = last ? count - *last : 0, end = first ? *first : count;
  std::vector<size_t> places;
  for (size_t i = end; i > begin; i -= std::min(every, i - begin)) places.push_back(i - 1);
  std::ranges::reverse(places);
  return places;
}

namespace {

// "21st", "2nd", "3rd", "12th": what stands behind the number.
std::string_view ordinal_end(size_t n) {
  constexpr std::string_view kEnds[] = {"th", "st", "nd", "rd"};
  const bool teens = n % 100 / 10 == 1;
  return kEnds[!teens && n % 10 < 4 ? n % 10 : 0];
}

}  // namespace

std::string Window::words() const {
  std::string text;
  if (first) text = fmt::format("the first {}", *first);
  if (last) text = fmt::format("the last {}", *last);
  if (every == 1) return text;
  return fmt::format("{}every {}{} counted back from the newest", text.empty() ? "" : text + ", ",
                     every, ordinal_end(every));
}

namespace {

// How much of the learning rate is left at x in [0, 1].
double left_at(Average average, double x) {
  if (average == Average::kSqrtDecay) return 1 - std::sqrt(x);
  return (1 + std::cos(std::numbers::pi * x)) / 2;
}

// A square root is the same on all machines, a cosine may differ in its last bits.
double settled(Average average, double weight) {
  constexpr double kScale = 1ULL << 40;
  return average == Average::kCosineDecay ? std::nearbyint(weight * kScale) / kScale : weight;
}

}  // namespace

std::vector<double> average_weights(Average average, size_t count, double alpha) {
  std::vector<double> weights(count, 1);
  const auto share = [&](size_t i) { return static_cast<double>(i) / static_cast<double>(count); };
  double decayed = 1;  // of kEma: (1 - alpha) to the power of the checkpoints that follow
  for (size_t i = count; i-- > 0;) {
    switch (average) {
      case Average::kUniform:
      case Average::kLawa:
      case Average::kPma:
      case Average::kLinearDecay:
        break;
      case Average::kWma:
        weights[i] = static_cast<double>(i + 1);
        break;
      case Average::kEma:
        weights[i] = (i == 0 ? 1 : alpha) * decayed;
        decayed *= 1 - alpha;
        break;
      case Average::kSqrtDecay:
      case Average::kCosineDecay:
        weights[i] = settled(average, left_at(average, share(i)) - left_at(average, share(i + 1)));
        break;
    }
  }
  return weights;
}

}  // namespace lewis
