# Writes a backup under a temporary name and gives it its own only when it is whole.
. scripts/maintenance/server.sh

backups="$TIDEMILL_DATA_DIR/backups"
mkdir -p "$backups"
target="$backups/tidemill-$(date -u +%Y%m%dT%H%M%SZ)-${TIDEMILL_FENCE:-0}.sqlite"
trap 'rm -f "$target.part"' EXIT
tidemill db backup "$@" "$target.part"
mv "$target.part" "$target"
ls -l "$target"
printf 'backup=%s\n' "$target" >> "$TIDEMILL_OUTPUT"
