#!/usr/bin/env bash
# Builds the documentation into build/site; a broken link or a warning is an error.
#   bash scripts/build_docs.sh            then: python3 -m http.server --directory build/site
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/venv.sh "[dev]"
HF_HUB_OFFLINE=1 NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet --site-dir build/site
echo "== the documentation is in build/site"
