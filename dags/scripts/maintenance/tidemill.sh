# Sourced by the others: where the binary and the server's data directory are.
set -eu

tidemill="${TIDEMILL_BIN:-tidemill}"
if ! command -v "$tidemill" >/dev/null 2>&1; then
  echo "tidemill is not in PATH; add its folder to the PATH of the worker" >&2
  exit 1
fi

# In `standalone` the folders of the DAGs lie in HOME/data/DAG.
if [ -z "${TIDEMILL_HOME:-}" ] && [ -f "$TIDEMILL_DATA_DIR/../../admin.token" ]; then
  TIDEMILL_HOME=$(cd "$TIDEMILL_DATA_DIR/../.." && pwd)
  export TIDEMILL_HOME
fi

backups="$TIDEMILL_DATA_DIR/backups"
