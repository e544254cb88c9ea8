# Removes the runs and logs that are past the retention of the configuration.
. scripts/maintenance/tidemill.sh

"$tidemill" db clean
