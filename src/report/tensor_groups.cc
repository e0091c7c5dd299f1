#include "report/tensor_groups.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

namespace lewis {
namespace {

// "model.layers.3.mlp" -> {"model", "layers", "3", "mlp"}
std::vector<std::string> parts_of(const std::string& name) {
  std::vector<std::string> parts(1);
  for (const char c : name) {
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

bool is_number(const std::string& part) {
  return !part.empty() && part.size() <= 9 &&
         std::ranges::all_of(part, [](char c) { return c >= '0' && c <= '9'; });
}

struct Group {
  TensorGroup shown;
  std::vector<std::string> parts;           // numbers are ""
  std::map<size_t, std::set<int>> numbers;  // by index among the parts

  std::string pattern() const {
    std::string text;
    for (size_t i = 0; i < parts.size(); ++i) {
      text += i ? "." : "";
      const auto found = numbers.find(i);
      text += found == numbers.end() ? parts[i] : range_text(found->second);
    }
    return text;
  }

  static std::string range_text(const std::set<int>& values) {
    const int first = *values.begin(), last = *values.rbegin();
    if (first == last) return std::to_string(first);
    const bool all = static_cast<size_t>(last - first) + 1 == values.size();
    return all ? fmt::format("{{{}-{}}}", first, last)
               : fmt::format("{{{}-{}: {}}}", first, last, values.size());
  }
};

}  // namespace

std::vector<TensorGroup> group_tensors(const std::vector<TensorLine>& tensors) {
  using Key = std::tuple<Fate, std::string, std::string, std::vector<std::string>>;
  std::map<Key, size_t> places;
  std::vector<Group> groups;
  for (const TensorLine& t : tensors) {
    std::vector<std::string> parts = parts_of(t.name);
    std::map<size_t, int> numbers;
    for (size_t i = 0; i < parts.size(); ++i) {
      if (!is_number(parts[i])) continue;
      numbers[i] = std::stoi(parts[i]);
      parts[i] = "";
    }
    const auto [place, fresh] =
        places.try_emplace({t.fate, t.dtype, t.shape, parts}, groups.size());
    if (fresh) groups.push_back({{"", t.dtype, t.shape, 0, 0, t.fate}, parts, {}});
    Group& group = groups[place->second];
    ++group.shown.tensors;
    group.shown.elements += t.elements;
    for (const auto& [i, value] : numbers) group.numbers[i].insert(value);
  }
  std::vector<TensorGroup> shown;
  for (Group& group : groups) {
    group.shown.pattern = group.pattern();
    shown.push_back(std::move(group.shown));
  }
  return shown;
}

std::string_view fate_name(Fate fate) {
  switch (fate) {
    case Fate::kMerged:
      return "merged";
    case Fate::kRefined:
      return "refined";
    case Fate::kCopied:
      return "copied";
    case Fate::kTakenOver:
      return "taken over";
  }
  return "";
}

}  // namespace lewis
