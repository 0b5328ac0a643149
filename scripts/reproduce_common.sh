# Sourced by reproduce_*.sh and tune_baselines.sh: changes to the checkout, puts its .venv on the PATH, and
# makes it where no llm4rec is installed, with the $extras that the calling script names.
set -euo pipefail
script=$(realpath "$0")
cd "$(dirname "$script")/.."
mode=${1:-}

# Print the comment at the top of the calling script.
usage() {
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$script" >&2
  exit 2
}

# The absolute path of a folder that was named relative to where the script was started.
absolute() {
  if [ -z "${1:-}" ]; then usage; fi
  (cd "$OLDPWD" && realpath "$1")
}

# The value of --raw or --start, [DATASET=]FOLDER, with an absolute path where the folder exists.
absolute_folder() {
  local name="" folder=$1
  if [[ $1 == *=* ]]; then name=${1%%=*}= folder=${1#*=}; fi
  echo "$name$(absolute "$folder" 2> /dev/null || echo "$folder")"
}

# Every table of a paper, one after the other; a table of which no cell could be made does not stop the next.
#   tables PAPER [argument of llm4rec reproduce …]
tables() {
  local paper=$1 listed table failed=0 code argument previous="" arguments=()
  shift
  for argument; do
    if [[ $previous == --raw || $previous == --start ]]; then argument=$(absolute_folder "$argument"); fi
    arguments+=("$argument")
    previous=$argument
  done
  listed=$(llm4rec list papers "$paper")
  for table in $(grep -o "^$paper/[a-z_]*" <<< "$listed"); do
    code=0
    llm4rec reproduce "$table" "${arguments[@]}" || code=$?
    if [ $code -eq 130 ]; then exit 130; fi # interrupted
    if [ $code -ne 0 ]; then failed=1; fi
    echo
  done
  return $failed
}

if [ -z "$mode" ]; then usage; fi
PATH=$PWD/.venv/bin:$PATH
if ! command -v llm4rec > /dev/null; then source scripts/venv.sh "${extras:-}" >&2; fi
