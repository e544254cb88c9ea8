# Removes all backups but the newest N. Their names begin with the time, so the order of names is the order of time.
. scripts/maintenance/tidemill.sh

keep="$1"
all=$(ls -1 "$backups" | grep '^tidemill-.*\.sqlite$' | sort -r)
echo "$all" | tail -n +"$((keep + 1))" | while read -r name; do
  [ -n "$name" ] || continue
  echo "removing $name"
  rm -f -- "$backups/$name"
done
