#!/usr/bin/env bash
# Makes an environment for each library whose lists are judged, with the versions of docs/results/peers.md.
#   bash scripts/peers/setup.sh FOLDER [lenskit|rectools|cornac|recbole …]     default: all
set -euo pipefail
folder=$1
shift
[ $# -gt 0 ] || set -- lenskit rectools cornac recbole
declare -A packages=(
  [lenskit]="lenskit==2025.8.1"
  [rectools]="rectools[torch]==0.19.0"                                        # needs numpy below 2
  [cornac]="cornac==3.0.1 torch tqdm"
  [recbole]="recbole==1.2.1 numpy<2 pandas<2.2 scipy<1.13 setuptools<81"    # written for these
)
for library in "$@"; do
  python3 -m venv "$folder/$library"
  # shellcheck disable=SC2086
  "$folder/$library/bin/pip" install --quiet ${packages[$library]}
  echo "$folder/$library/bin/python"
done
