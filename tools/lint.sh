#!/bin/sh
# Checks what needs no compiler: the format of C++ sources (clang-format 14, as in Debian 12), shell
# scripts (shellcheck) and, where python3 is installed, the syntax of Python scripts.
set -eu
cd "$(dirname "$0")/.."
sources=$(git ls-files 'src/*.cc' 'src/*.h' 'tests/*.cc' 'tests/*.h' 'bench/*.cc' 'bench/*.h' \
  'tools/*.cc' 'tools/*.h' 'include/*.h' 'examples/*.cc' 'fuzz/*.cc' 'fuzz/*.h' \
  'python/*.cc' 'python/*.h')
echo "$sources" | xargs clang-format-14 --dry-run -Werror
scripts=$(git ls-files '*.sh' .ci/run)
echo "$scripts" | xargs shellcheck
if command -v python3 >/dev/null; then
  # The files are only parsed, so that no __pycache__ is left.
  scripts=$(git ls-files '*.py')
  echo "$scripts" | xargs python3 -c 'import ast, sys
for name in sys.argv[1:]:
    ast.parse(open(name, encoding="utf-8").read(), name)'
fi
