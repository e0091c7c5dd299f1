// The border to the Rust library `lewis_text`: Hugging Face tokenizers, Jinja chat templates
// and regular expressions.
//
// - Strings go in as (pointer, bytes), need no terminating zero and stay the caller's. They must be
//   UTF-8; anything else is an error. A pointer may be NULL when its size is 0.
// - Every function that can fail returns true when it worked. When it returns false it has written
//   one line into *error and nothing into its other results. `error` must not be NULL.
// - What comes back (LewisText, LewisIds, tokenizers, templates, regular
//   expressions) belongs to the caller, who gives it to the matching ..._free exactly once. Freeing
//   an empty one (NULL) does nothing.
// - A function to which the system gives no more memory writes LEWIS_OUT_OF_MEMORY into *error. A
//   result beside it is to be freed and not to be used.
// - A panic inside the library is caught at this border and returned as an error; none is printed.
// - Tokenizers, templates and regular expressions never change: any number of threads may use one
//   at the same time.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct LewisTokenizer LewisTokenizer;
typedef struct LewisTemplate LewisTemplate;
typedef struct LewisRegex LewisRegex;

#define LEWIS_OUT_OF_MEMORY "out of memory"

// UTF-8 bytes without a terminating zero; data is NULL when there are none.
typedef struct LewisText {
  char* data;
  size_t size;
} LewisText;

// Token ids; data is NULL when there are none.
typedef struct LewisIds {
  uint32_t* data;
  size_t size;
} LewisIds;

// Options of encoding; add the ones that are wanted.
enum {
  LEWIS_ADD_SPECIAL_TOKENS = 1,     // what the post-processor writes around a text: BOS, EOS, ...
  LEWIS_SPECIAL_TOKENS_AS_TEXT = 2  // "<|endoftext|>" in the text is text, not the special token
};

// A tokenizer from the bytes of a tokenizer.json. Truncation, padding and dropout that the file may
// ask for are switched off: the ids of a text depend on the text alone.
bool lewis_tokenizer_new(const char* json, size_t json_size, LewisTokenizer** tokenizer,
                         LewisText* error);
void lewis_tokenizer_free(LewisTokenizer* tokenizer);
bool lewis_tokenizer_encode(const LewisTokenizer* tokenizer, const char* text, size_t text_size,
                            unsigned how, LewisIds* ids, LewisText* error);
// Ids that the vocabulary does not have are left out. Bytes that are not UTF-8 become U+FFFD.
bool lewis_tokenizer_decode(const LewisTokenizer* tokenizer, const uint32_t* ids, size_t count,
                            bool skip_special_tokens, LewisText* text, LewisText* error);
// *id is -1 when there is no such token.
bool lewis_tokenizer_token_to_id(const LewisTokenizer* tokenizer, const char* token,
                                 size_t token_size, int64_t* id, LewisText* error);
// *found is false when no token has this id.
bool lewis_tokenizer_id_to_token(const LewisTokenizer* tokenizer, uint32_t id, LewisText* token,
                                 bool* found, LewisText* error);
// The number of tokens, added ones included.
bool lewis_tokenizer_vocab_size(const LewisTokenizer* tokenizer, size_t* size, LewisText* error);

// A chat template from Jinja source, as transformers compiles it: trim_blocks, lstrip_blocks,
// Python's methods on strings and dicts, raise_exception, strftime_now, tojson as json.dumps writes
// it, {% generation %}, break and continue. A template has no access to files or other templates, and a
// budget: one that runs away ends with an error.
bool lewis_template_new(const char* source, size_t source_size, LewisTemplate** chat_template,
                        LewisText* error);
void lewis_template_free(LewisTemplate* chat_template);
// context: a JSON object; its members are the template's variables (messages, tools,
// add_generation_prompt, bos_token, ...). now: what strftime_now formats, in seconds since
// 1970-01-01 00:00 of the clock on the wall.
bool lewis_template_render(const LewisTemplate* chat_template, const char* context,
                           size_t context_size, int64_t now, LewisText* text, LewisText* error);

// A regular expression of the crate `regex`: time linear in the text, neither lookaround nor
// back-references. *groups: what a match has, the whole one included. The pattern has 10,000 bytes
// or less and compiles to 4 MiB or less.
bool lewis_regex_new(const char* pattern, size_t pattern_size, LewisRegex** regex, size_t* groups,
                     LewisText* error);
void lewis_regex_free(LewisRegex* regex);
// All matches that do not overlap, from left to right. spans: begin and end, in bytes, of each
// group of each match; UINT32_MAX for a group that has no part in it. The text has 64 MiB or less;
// an error, too, when the matches take longer than a second and a microsecond per byte.
bool lewis_regex_find_all(const LewisRegex* regex, const char* text, size_t text_size,
                          LewisIds* spans, LewisText* error);
// True when there is a match; in time linear in the text.
bool lewis_regex_is_match(const LewisRegex* regex, const char* text, size_t text_size, bool* found,
                          LewisText* error);

// For a process with one thread: from now on the library may hold so many bytes more than at the
// first call. The process ends with the first exit code below as soon as it would hold more, and
// with the second one when the system gives it no more. May be called again with another number.
enum { LEWIS_EXIT_OVER_LIMIT = 77, LEWIS_EXIT_NO_MEMORY = 78 };
void lewis_text_limit_memory(uint64_t more);

void lewis_text_free(LewisText text);
void lewis_ids_free(LewisIds ids);

// Panics on purpose and returns false, as any function would: for the test of this border.
bool lewis_text_panic(LewisText* error);

#ifdef __cplusplus
}
#endif
