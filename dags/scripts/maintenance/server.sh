# Sourced by the others: how `tidemill` finds the server. It is in the PATH of every task.
set -eu

# In `standalone` the folders of the DAGs lie in HOME/data/DAG, and the server's address and the token in HOME.
home="$TIDEMILL_DATA_DIR/../.."
set --
if [ -f "$home/admin.token" ]; then
  set -- --data-dir "$(cd "$home" && pwd)"
fi
