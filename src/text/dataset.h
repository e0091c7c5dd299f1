// Data sets: files of questions and answers, conversations, texts or token ids; and the sequences
// of token ids that calibration and evaluation feed to a model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/data_format.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace lewis {

// prompt + answer is the whole document; the answer is what a loss counts.
struct DataItem {
  enum class Kind {
    kDocument,  // prompt and answer, as text
    kChat,      // the same, written by a chat template, special tokens included
    kText,      // a whole file, to be cut into windows
    kIds        // token ids as they are
  };
  Kind kind = Kind::kDocument;
  std::string prompt, answer;
  std::string reference_text;  // what the paper's program feeds for this item
  std::vector<int32_t> ids;    // kind kIds only
  std::string row;             // the line of a .jsonl file that the item stands at
  size_t line = 0;             // in the file, from 1
  std::string where;           // "file:line", for messages
};

struct DataOptions {
  std::filesystem::path file;
  DataFormat format = DataFormat::kJsonl;
  std::string prompt_field, answer_field;  // format jsonl; without any, the field "text"
  // Is called with a line about items that were read in another way than they are written, or left
  // out; may be empty.
  std::function<void(const std::string&)> note{};
};

// Reads a data file. `chat` may be null unless the format is chat. Blank lines are skipped. Throws
// Error(kInput) that names file and line when a line is not what the format asks for or has more
// than 64 MiB, when there is no item at all, and for a text of more than 1 GiB.
std::vector<DataItem> read_data(const DataOptions& options, const ChatTemplate* chat);

// ids[prompt_tokens...] is the answer.
struct TokenSequence {
  std::vector<int32_t> ids;
  size_t prompt_tokens = 0;
  bool operator==(const TokenSequence&) const = default;
};

// The prompt with the tokenizer's special tokens, then the answer without, tokenized apart. What a
// chat template wrote gets none added; ids stay as they are, with no prompt, and need no tokenizer.
TokenSequence tokenize(const Tokenizer* tokenizer, const DataItem& item);
inline TokenSequence tokenize(const Tokenizer& tokenizer, const DataItem& item) {
  return tokenize(&tokenizer, item);
}

struct CalibrationText {
  size_t samples = 0;       // 0: all
  size_t skip = 0;          // so many of the order of choice come before: an earlier choice
  uint64_t seed = 42;       // of the choice of samples
  size_t max_tokens = 512;  // per sequence; longer ones are cut
  bool reference = false;   // as the paper feeds its samples
};

// The sequences to run through a model, chosen as the paper chooses: the first `samples` of
// numpy.random.default_rng(seed).permutation(n), over the items, or for plain text over its windows
// of max_tokens. In the order of the file when samples is 0 or for ids (then the first `samples`).
// clean: tokenize(), cut to max_tokens. reference: the tokens of reference_text with the
// tokenizer's special tokens, cut to max_tokens and padded to it with EOS on the tokenizer's side;
// ids are never padded.
// `tokenizer` may be null for ids. Throws Error(kInput) that names file and line when a sequence is
// empty.
std::vector<TokenSequence> calibration_sequences(const std::vector<DataItem>& items,
                                                 const Tokenizer* tokenizer,
                                                 const CalibrationText& how);

}  // namespace lewis
