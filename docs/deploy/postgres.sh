# Sourced by backup.sh and restore.sh: the address in RALLREC_POSTGRES_URL as `url`, its password in PGPASSWORD alone.
# Whoever may list processes reads the arguments of each, and not its environment.
url=${RALLREC_POSTGRES_URL:-}
url=${url/+psycopg2/}
password=
if [[ $url =~ ^([^:]+://[^:/?@]*):([^@/]*)@(.*)$ ]]; then
  password=${BASH_REMATCH[2]} url="${BASH_REMATCH[1]}@${BASH_REMATCH[3]}"
elif [[ $url =~ ^(.*[?\&])password=([^\&]*)\&?(.*)$ ]]; then
  password=${BASH_REMATCH[2]} url="${BASH_REMATCH[1]}${BASH_REMATCH[3]}"
fi
if [ -n "$password" ]; then
  password=${password//\\/\\\\}
  printf -v PGPASSWORD '%b' "${password//%/\\x}" # %40 stands for @
  export PGPASSWORD
fi
