#!/usr/bin/env bash
# The lake and Dagster's storage as a backup has them: restore.sh BACKUP, with the services stopped.
# Nothing is overwritten: RALLREC_LAKE and DAGSTER_HOME must be new or empty, and the database without Dagster's tables.
set -euo pipefail
backup=${1:?usage: restore.sh BACKUP, with RALLREC_LAKE and DAGSTER_HOME set}
. "$(dirname "$0")/postgres.sh"
lake=${RALLREC_LAKE:?} home=${DAGSTER_HOME:?}

(cd "$backup" && sha256sum --check --quiet SHA256SUMS)
for folder in "$lake" "$home"; do
  if [ -n "$(ls -A "$folder" 2>/dev/null)" ]; then
    echo "restore.sh: $folder is not empty: move it away, or set another" >&2
    exit 1
  fi
  mkdir -p "$folder"
done

tar -C "$lake" -xpf "$backup/lake.tar"
tar -C "$home" -xpf "$backup/home.tar"
if [ -f "$backup/storage.dump" ]; then
  : "${url:?RALLREC_POSTGRES_URL says where the database is}"
  pg_restore --exit-on-error --single-transaction --no-owner --dbname="$url" "$backup/storage.dump"
fi
echo "restored: now run rallrec status --verify"
