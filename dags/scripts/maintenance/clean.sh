# Removes the runs and logs that are past the retention of the configuration.
. scripts/maintenance/server.sh

tidemill db clean "$@"
