// The border to what reads data files: compressed lines, CSV and Parquet. The rules of lewis_text.h
// hold: strings are the caller's, a function that returns false has written one line into *error,
// panics are caught, and what comes back is freed by the caller once.
//
// - Nothing here is shared: one thread at a time uses an object.
// - Files are streamed. Beside the piece that is handed over, memory holds a few pages of a Parquet
//   file per column, the window of a decompressor (128 MiB at most), or a record of a CSV file.
// - A file that unpacks to more than LEWIS_MOST_RATIO times its own bytes and LEWIS_MOST_BESIDE is
//   refused.
#pragma once

#include <lewis_text.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LEWIS_MOST_RATIO = 1000, LEWIS_MOST_BESIDE = 256 << 20 };

typedef struct LewisBytes LewisBytes;
typedef struct LewisRows LewisRows;

// The bytes of a file: unpacked if it begins as gzip or Zstandard do (several members or frames
// follow each other), else as they are.
bool lewis_bytes_new(const char* path, size_t path_size, LewisBytes** bytes, LewisText* error);
// Fills `out` up to `size` bytes; *got is 0 at the end of the file only.
bool lewis_bytes_read(LewisBytes* bytes, char* out, size_t size, size_t* got, LewisText* error);
void lewis_bytes_free(LewisBytes* bytes);

// The rows of a table, each as a JSON object on a line of its own.
// CSV and TSV: RFC 4180, with a header; may be compressed; every value is a text. PARQUET: nested
// columns are objects and lists, bytes that are no text are null, dates and decimals are texts.
enum { LEWIS_CSV = 0, LEWIS_TSV = 1, LEWIS_PARQUET = 2 };
bool lewis_rows_new(const char* path, size_t path_size, unsigned format, LewisRows** rows,
                    LewisText* error);
// The next rows, until they have `enough` bytes or more; empty at the end of the file only.
bool lewis_rows_next(LewisRows* rows, size_t enough, LewisText* lines, LewisText* error);
void lewis_rows_free(LewisRows* rows);

#ifdef __cplusplus
}
#endif
