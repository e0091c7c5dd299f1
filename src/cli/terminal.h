// Output for people: colours where they help, a progress bar on a terminal, plain lines in a pipe.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/human.h"
#include "base/progress.h"
#include "cli/output.h"

namespace lewis {

// How one stream is to be written to. NO_COLOR, TERM=dumb and pipes turn colour off. Characters
// beyond ASCII go everywhere but to a dumb terminal, one whose locale says another encoding, and
// tmux without a locale (which puts underlines for them).
struct Terminal {
  bool tty = false;          // lines that are wider than a terminal would wrap
  bool interactive = false;  // a terminal that understands carriage return
  bool color = false;
  bool unicode = true;
  int width = 80;  // COLUMNS in a pipe

  static Terminal of(int file_descriptor);
};

// Turns Progress into a bar on stderr (interactive) or into a line per finished piece of work and
// every ten seconds (pipe).
class ProgressPrinter {
 public:
  explicit ProgressPrinter(bool quiet);
  ~ProgressPrinter();  // ends a bar that is still on the line
  void operator()(const Progress& progress);
  // For the Progress callbacks of the libraries; the printer must outlive it.
  ProgressFn callback() {
    return [this](const Progress& p) { (*this)(p); };
  }

 private:
  using Clock = std::chrono::steady_clock;
  void print(const Progress& progress, Clock::time_point now);

  Terminal terminal_;
  bool quiet_;
  std::string what_;  // the work that is shown now
  bool line_open_ = false;
  Clock::time_point begun_{}, shown_{};
};

// The text with SGR codes around it when `color`: "1" bold, "2" dim, "31" red, ...
TerminalText styled(const TerminalText& text, std::string_view sgr, bool color);
// Columns that a UTF-8 text takes on a terminal: two for wide characters, none for combining ones
// and SGR codes.
size_t display_width(std::string_view text);
// The text, shortened to at most `width` columns: its end is kept behind "…". For text without SGR
// codes.
TerminalText elide(const TerminalText& text, size_t width);
// "±" becomes "+-", rules and marks their nearest in ASCII, where the terminal has no others.
TerminalText for_terminal(TerminalText text, const Terminal& terminal);

}  // namespace lewis
