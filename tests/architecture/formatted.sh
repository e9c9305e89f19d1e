#!/usr/bin/env bash
# Every source of ours is as .clang-format has it; one version of clang-format, so that two machines never disagree.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v clang-format-19 >/dev/null || { echo "clang-format-19 is missing: deploy/install-dependencies lint" >&2; exit 1; }
find kernels engine server clients benchmarks tests \( -name '*.h' -o -name '*.cc' -o -name '*.cu' -o -name '*.cuh' \) -print0 |
  xargs -0 -n 40 -P 2 clang-format-19 --dry-run -Werror
