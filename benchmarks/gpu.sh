#!/bin/sh
# All that needs a GPU, in one command of under ten minutes: see gpu.py. PYTHON names the Python that has the package.
# usage: benchmarks/gpu.sh [--device cuda|cpu] [--fast] [--output DIR] [--data DIR] [--published CHECKOUT]
here=$(dirname "$0")
if [ -z "$PYTHON" ]; then
    PYTHON=python3
    [ -x "$here/../.venv/bin/python" ] && PYTHON=$here/../.venv/bin/python
fi
exec "$PYTHON" "$here/gpu.py" "$@"
