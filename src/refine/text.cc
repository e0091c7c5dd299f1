#include "refine/text.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace lewis {
namespace {

size_t held_of(size_t sequences, double share) {
  if (share <= 0 || sequences < 2) return 0;
  const auto held = static_cast<size_t>(std::lround(share * static_cast<double>(sequences)));
  return std::clamp<size_t>(held, 1, sequences - 1);
}

// A text that is all question tells nothing apart.
double weight_of(const TokenSequence& s, size_t token, double question_weight) {
  const bool question = token < s.prompt_tokens && s.prompt_tokens < s.ids.size();
  return question ? question_weight : 1;
}

void append(TextRows& text, std::span<const TokenSequence> sequences, size_t expert, bool held_out,
            double question_weight) {
  Segment segment{expert, held_out, text.rows, 0, {}};
  double sum = 0;
  for (const TokenSequence& s : sequences) {
    segment.sequences.push_back({segment.rows, static_cast<int64_t>(s.ids.size()), 0, nullptr});
    segment.rows += static_cast<int64_t>(s.ids.size());
    text.ids.insert(text.ids.end(), s.ids.begin(), s.ids.end());
    for (size_t t = 0; t < s.ids.size(); ++t) {
      const double w = weight_of(s, t, question_weight);
      text.weights.push_back(static_cast<float>(w));
      sum += w;
    }
  }
  if (segment.rows == 0) return;
  for (int64_t r = segment.first_row; r < segment.first_row + segment.rows; ++r) {
    float& w = text.weights[static_cast<size_t>(r)];
    w = static_cast<float>(w / sum);
  }
  text.rows += segment.rows;
  text.segments.push_back(std::move(segment));
}

}  // namespace

TextRows lay_out_text(std::span<const std::vector<TokenSequence>> texts, double held_out,
                      double question_weight) {
  TextRows text;
  for (const bool held : {false, true}) {
    for (size_t k = 0; k < texts.size(); ++k) {
      if (texts[k].empty()) throw input_error("refine: expert {} has no calibration text", k);
      const std::span<const TokenSequence> all = texts[k];
      const size_t fit = all.size() - held_of(all.size(), held_out);
      append(text, held ? all.subspan(fit) : all.first(fit), k, held, question_weight);
    }
    if (!held) text.fit_rows = text.rows;
  }
  for (Segment& segment : text.segments) {
    for (SequenceRows& s : segment.sequences)
      s.ids = text.ids.data() + segment.first_row + s.first_row;
  }
  return text;
}

TextRows select_rows(const TextRows& text, std::span<const int64_t> rows) {
  TextRows selected;
  auto row = rows.begin();
  for (const Segment& s : text.segments) {
    Segment some{s.expert, s.held_out, selected.rows, 0, {}};
    for (; row != rows.end() && *row < s.first_row + s.rows; ++row, ++some.rows)
      selected.weights.push_back(text.weights[static_cast<size_t>(*row)]);
    if (some.rows == 0) continue;
    selected.rows += some.rows;
    if (!s.held_out) selected.fit_rows = selected.rows;
    selected.segments.push_back(std::move(some));
  }
  return selected;
}

}  // namespace lewis
