#!/usr/bin/env bash
# Backup of the lake and of Dagster's storage into a new folder: backup.sh FOLDER
# It takes the locks that runs take: those under way end first, new ones wait until the copy is whole.
set -euo pipefail
shopt -s nullglob
umask 077 # raw data, and whatever Dagster's storage knows
. "$(dirname "$0")/postgres.sh"
target=${1:?usage: backup.sh FOLDER, with RALLREC_LAKE and DAGSTER_HOME set}
lake=${RALLREC_LAKE:?} home=${DAGSTER_HOME:?}

whole="$target/$(date -u +%Y%m%dT%H%M%SZ)"
part="$target/.part-$$"
mkdir -p "$part"
trap 'rm -rf "$part"' EXIT

# In the order in which runs take them: datasets, what they share, the LLM.
for lock in "$lake"/locks/[!_]*.lock "$lake"/locks/_[!l]*.lock "$lake"/locks/_llm.lock; do
  exec {held}>>"$lock"
  flock "$held"
done

# Without what killed runs were writing. Times to the nanosecond: by them a run sees that nothing has changed.
tar -C "$lake" --format=posix --no-wildcards-match-slash \
  --exclude='./locks' --exclude='.*.tmp' --exclude='.*.old' -cf "$part/lake.tar" .
if [ -n "$url" ]; then
  pg_dump --format=custom --no-owner --file="$part/storage.dump" --dbname="$url"
fi
# Logs of runs, and Dagster's storage where that is SQLite (stop its processes before, then).
tar -C "$home" --format=posix --exclude='run_locks' -cf "$part/home.tar" .
(cd "$part" && sha256sum -- * >SHA256SUMS)
mv -T "$part" "$whole"
echo "$whole"
