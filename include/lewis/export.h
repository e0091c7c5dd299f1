// LEWIS_API marks the declarations that the shared library liblewis exports. Everything else in it
// is hidden.
#pragma once

#if defined(__GNUC__)
#define LEWIS_API __attribute__((visibility("default")))
#else
#define LEWIS_API
#endif
