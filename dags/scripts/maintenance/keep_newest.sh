# Removes all backups but the newest N. Their names begin with the time, so the order of names is the order of time.
set -eu

keep="$1"
backups="$TIDEMILL_DATA_DIR/backups"
find "$backups" -maxdepth 1 -type f -name 'tidemill-*.sqlite' | sort -r | tail -n +"$((keep + 1))" | while read -r old; do
  echo "removing $old"
  rm -f -- "$old"
done
