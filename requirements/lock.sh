#!/bin/sh
# Resolves requirements/*.txt from pyproject.toml and requirements/*.in: every version with every hash, for every
# platform, and no address. Called by `make lock`.
set -eu
lock() { # lock OUTPUT INPUT...
    output=$1
    shift
    "$BIN/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --no-annotate --custom-compile-command "make lock" --output-file "$output" "$@"
}
lock requirements/runtime.txt pyproject.toml --extra edge --extra service --extra report --constraint requirements/constraints.in
lock requirements/build.txt requirements/build.in --constraint requirements/runtime.txt
lock requirements/dev.txt pyproject.toml --extra dev --constraint requirements/runtime.txt
lock requirements/train.txt requirements/train.in --constraint requirements/runtime.txt --constraint requirements/build.txt
lock requirements/portraits.txt requirements/portraits.in --no-deps
if grep -nE 'https?:|file:|--(extra-)?index-url|--find-links' requirements/*.txt; then
    echo "an address got into the requirements" >&2
    exit 1
fi
