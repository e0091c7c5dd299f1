// The border to the Rust library's HTTP client (ureq with rustls): one request at a time per call,
// bodies in pieces.
//
// The rules of lewis_text.h hold: texts, errors, memory, panics. A client may be used by any number
// of threads at the same time, a response by one at a time.
//
// - HTTP/1.1 over TCP or TLS. Certificates are those of the system (or of SSL_CERT_FILE and
//   SSL_CERT_DIR), or Mozilla's where the system has none. HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and
//   NO_PROXY are followed.
// - Redirects are not followed and a status is never an error: the caller sees the answer.
// - Nothing waits longer than the client's limit for the other side, and every wait ends within a
//   fifth of a second after `stop` returned true.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lewis_text.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct LewisHttpClient LewisHttpClient;
typedef struct LewisHttpResponse LewisHttpResponse;

// Asked during every wait, on the thread that called: true ends the call with an error.
typedef struct LewisHttpStop {
  bool (*stop)(void* context);  // NULL: never
  void* context;
} LewisHttpStop;

// The body of a request: `pull` writes at most `room` bytes and returns how many; 0 before all
// `size` bytes, or more than `room`, is an error of the request.
typedef struct LewisHttpBody {
  size_t (*pull)(void* context, char* out, size_t room);  // NULL: no body
  void* context;
  uint64_t size;
} LewisHttpBody;

// wait_ms: the longest wait for a connection, an answer, or more bytes.
bool lewis_http_client_new(const char* user_agent, size_t user_agent_size, uint64_t wait_ms,
                           LewisHttpClient** client, LewisText* error);
void lewis_http_client_free(LewisHttpClient* client);

// headers: lines "Name: value\n". Returns when the answer's headers are there.
bool lewis_http_send(const LewisHttpClient* client, const char* method, size_t method_size,
                     const char* url, size_t url_size, const char* headers, size_t headers_size,
                     LewisHttpBody body, LewisHttpStop stop, LewisHttpResponse** response,
                     LewisText* error);
unsigned lewis_http_status(const LewisHttpResponse* response);
// All headers of the answer as lines "name: value\n", names in small letters. Bytes that are not
// UTF-8 become U+FFFD.
bool lewis_http_headers(const LewisHttpResponse* response, LewisText* headers, LewisText* error);
// Some more bytes of the body; *size is 0 at its end. A body that ends before its Content-Length is
// an error.
bool lewis_http_read(LewisHttpResponse* response, char* out, size_t room, LewisHttpStop stop,
                     size_t* size, LewisText* error);
void lewis_http_response_free(LewisHttpResponse* response);

#ifdef __cplusplus
}
#endif
