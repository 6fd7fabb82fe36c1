#!/usr/bin/env bash
# One worker of a training on several machines. Start it on every machine, from the project's folder:
#
#   bash docs/distributed/worker.sh INDEX WORKERS [FLAG]...
#
# On the first and the second of two machines, which both see /shared:
#
#   bash docs/distributed/worker.sh 0 alpha:2222,beta:2222 --config=digits:trades --workdir=/shared/run
#   bash docs/distributed/worker.sh 1 alpha:2222,beta:2222 --config=digits:trades --workdir=/shared/run
#
# INDEX is this machine's place in WORKERS, from 0; the first is the chief, which writes the files.
# PYTHON, PAUSE (seconds before another attempt) and ATTEMPTS may be set in the environment.
set -uo pipefail

index=$1 workers=$2
shift 2

addresses=$(printf '"%s", ' ${workers//,/ })
export TF_CONFIG="{\"cluster\": {\"worker\": [${addresses%, }]}, \"task\": {\"type\": \"worker\", \"index\": $index}}"

# When one worker dies, the others notice within half a minute and end as well; all begin again from the last checkpoint.
for ((attempt = 1; attempt <= ${ATTEMPTS:-20}; attempt++)); do
    "${PYTHON:-.venv/bin/python}" -m trainers.train --config.strategy=multi_worker "$@"
    code=$?
    # 0 is done; 1 to 3 is a mistake, which the next attempt would make again.
    [ $code -le 3 ] && exit $code
    echo "worker $index ended with code $code in attempt $attempt" >&2
    sleep "${PAUSE:-10}"
done
exit $code
