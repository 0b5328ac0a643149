# Sourced by reproduce_*.sh: puts the .venv of the checkout on the PATH, and makes it where no llm4rec is
# installed. Paths and outputs are relative to where the script is started.
set -euo pipefail
script=$(realpath "$0")
checkout=$(dirname "$(dirname "$script")")
mode=${1:-}

# Print the comment at the top of the calling script.
usage() {
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$script" >&2
  exit 2
}

# Every table of a paper, one after the other; a table of which no cell could be made does not stop the next.
#   tables PAPER [argument of llm4rec reproduce …]
tables() {
  local paper=$1 listed table failed=0 code
  shift
  listed=$(llm4rec list papers "$paper")
  for table in $(grep -o "^$paper/[a-z_]*" <<< "$listed"); do
    code=0
    llm4rec reproduce "$table" "$@" || code=$?
    if [ $code -eq 130 ]; then exit 130; fi # interrupted
    if [ $code -ne 0 ]; then failed=1; fi
    echo
  done
  return $failed
}

if [ -z "$mode" ]; then usage; fi
PATH=$checkout/.venv/bin:$PATH
if ! command -v llm4rec > /dev/null; then (cd "$checkout" && source scripts/venv.sh "") >&2; fi
