#!/usr/bin/env bash
# Runs one job on a local Ray head of its own and ends what it started, and nothing else:
#
#   cluster/local.sh jobs/run_pipeline.py --again
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
exec python "$(dirname "${BASH_SOURCE[0]}")/local_head.py" "$@"
