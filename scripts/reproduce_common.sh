# Sourced by reproduce_*.sh and tune_scientific.sh: changes to the checkout and puts its .venv on the PATH.
set -euo pipefail
script=$(realpath "$0")
cd "$(dirname "$script")/.."
PATH=$PWD/.venv/bin:$PATH
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

# The table, the page and the claims of the runs in a folder.
#   report OUTPUTS [argument of llm4rec report …]
report() {
  llm4rec report --outputs "$@"
  llm4rec report --outputs "$1" --html "$1/report.html"
  llm4rec report --outputs "$1" --claims
}

if [ -z "$mode" ]; then usage; fi
