#include "text/stop_strings.h"

#include <algorithm>

namespace lewis {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD: bytes that are no character
// More tokens than a character has bytes: what is no character by then will not become one.
constexpr size_t kMostPending = 8;

}  // namespace

// A token adds the difference between two decodings: alone it may read otherwise, since some
// tokenizers leave out a space at the beginning.
void GrowingText::append(int32_t id) {
  window_.push_back(id);
  const std::string whole = tokenizer_->decode(window_, false);
  if (whole.ends_with(kReplacement) && window_.size() - old_ < kMostPending) return;
  const size_t known = tokenizer_->decode(std::span(window_).first(old_), false).size();
  text_ += whole.substr(std::min(known, whole.size()));
  window_.erase(window_.begin(), window_.begin() + static_cast<std::ptrdiff_t>(old_));
  old_ = window_.size();
}

StopStrings::StopStrings(const Tokenizer& tokenizer, std::vector<std::string> stops)
    : tokenizer_(tokenizer), stops_(std::move(stops)) {
  std::erase(stops_, "");
  for (const std::string& stop : stops_) longest_ = std::max(longest_, stop.size());
}

bool StopStrings::completed(size_t i, std::span<const int32_t> ids) {
  if (stops_.empty()) return false;
  Watched& w = watched_.try_emplace(i, Watched{GrowingText(tokenizer_)}).first->second;
  const size_t before = w.text.text().size();
  for (; w.tokens < ids.size(); ++w.tokens) w.text.append(ids[w.tokens]);
  const size_t from = before - std::min(before, longest_ - 1);
  const bool found = std::ranges::any_of(stops_, [&](const std::string& stop) {
    return w.text.text().find(stop, from) != std::string::npos;
  });
  if (found) watched_.erase(i);
  return found;
}

}  // namespace lewis
