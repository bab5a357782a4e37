# Source this in the shell that starts a Ray head, joins a cluster or submits a job (bash and zsh):
#
#   source cluster/env.sh && ray start --head && ray job submit jobs/stage2.py
#
# It activates the project's environment, so that `#!/usr/bin/env python` finds it, and turns Ray's token authentication
# on: a head started without it is open to everyone who reaches its ports. A token is made if there is none.

_medtrain_root="$(cd "$(dirname "${BASH_SOURCE[0]:-${(%):-%x}}")/.." && pwd)"
_medtrain_venv="${MEDTRAIN_VENV:-$_medtrain_root/.venv}"

if [ ! -f "$_medtrain_venv/bin/activate" ]; then
    echo "cluster/env.sh: there is no environment in $_medtrain_venv; run: make -C $_medtrain_root env" >&2
    unset _medtrain_root _medtrain_venv
    return 1
fi
. "$_medtrain_venv/bin/activate"
unset _medtrain_root _medtrain_venv

export RAY_AUTH_MODE=token
export RAY_TRAIN_V2_ENABLED=1
export RAY_USAGE_STATS_ENABLED=0
export TOKENIZERS_PARALLELISM=false
# A head asks its nodes every second whether they live (Ray: every three): a dead one is known 5 seconds after, not 15.
export RAY_health_check_period_ms=1000
# No job runs in the processes that a node would start for each of its CPUs before anybody asks: jobs bring their code.
export RAY_prestart_worker_first_driver=0
# A job's log is a file and often ends in a pipe: without this its lines come in blocks of 8 KiB.
export PYTHONUNBUFFERED=1

# Ray makes no token by itself when a head starts, and makes it readable to all; an existing one is kept.
(umask 077 && ray get-auth-token --generate >/dev/null 2>&1) || {
    echo "cluster/env.sh: Ray could not make its token in $HOME/.ray; is the folder writable?" >&2
    return 1
}
