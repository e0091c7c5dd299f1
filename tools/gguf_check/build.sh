#!/bin/sh
# Builds llama_values against a llama.cpp that is there already: LLAMA is its source, LLAMA_BUILD
# where `cmake -DBUILD_SHARED_LIBS=OFF -DGGML_OPENMP=OFF` built its libraries. Nothing of lewis
# needs it but check.py.
#   LLAMA=~/llama.cpp LLAMA_BUILD=~/llama.cpp/build tools/gguf_check/build.sh OUT
set -eu
: "${LLAMA:?the source of llama.cpp}" "${LLAMA_BUILD:?its build}"
here=$(dirname "$0")
${CXX:-c++} -std=c++20 -O1 -Wall -Wextra -I"$LLAMA/include" -I"$LLAMA/ggml/include" \
  "$here/llama_values.cc" -o "${1:?where to write the program}" \
  "$LLAMA_BUILD/src/libllama.a" "$LLAMA_BUILD/ggml/src/libggml.a" \
  "$LLAMA_BUILD/ggml/src/libggml-cpu.a" "$LLAMA_BUILD/ggml/src/libggml-base.a" \
  -lpthread -ldl -lm
