// The texts of all experts as rows of one matrix.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/transformer.h"
#include "text/dataset.h"

namespace lewis {

// Consecutive rows: sequences of one expert's text, all fitted to or all held out.
struct Segment {
  size_t expert = 0;
  bool held_out = false;
  int64_t first_row = 0, rows = 0;
  std::vector<SequenceRows> sequences;  // their first_row counts from the segment's
};

// First come the rows that are fitted to, expert by expert, then those that are held out, in the
// same order.
struct TextRows {
  std::vector<int32_t> ids;       // [rows]
  std::vector<Segment> segments;  // those without rows are left out
  std::vector<float> weights;     // [rows]; of each segment they add up to one
  int64_t rows = 0, fit_rows = 0;
  int64_t held_rows() const { return rows - fit_rows; }
};

// texts[k]: the sequences of expert k. The last `held_out` (a share) of each are held out, at least
// one and not all where the share is above 0 and there are several. A question's token weighs
// question_weight, an answer's one, a text without questions one everywhere.
TextRows lay_out_text(std::span<const std::vector<TokenSequence>> texts, double held_out,
                      double question_weight);

// Some rows of a text (ascending), with the weights that they have in all of it, so that of a
// segment they no longer add up to one. Without ids and sequences.
TextRows select_rows(const TextRows& text, std::span<const int64_t> rows);

}  // namespace lewis
