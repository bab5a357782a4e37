#!/usr/bin/env bash
# On a machine with a GPU: the training-step, QLoRA and shared-lanes benchmarks and the tests that need CUDA. Usage: run.sh [OUT]
# LLAMAFACTORY=/path/to/an/environment that has LLaMA-Factory lets it take part.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-gpu-results}
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
mkdir -p "$out"

"$python" -c 'import torch; assert torch.cuda.is_available(), "no CUDA device that PyTorch can use"
print(torch.cuda.get_device_name(), torch.version.cuda)' | tee "$out/device.txt"

failed=0
: >"$out/train_step.jsonl"
for shape in tiny qwen2-0.5b; do
  if "$python" benchmarks/train_step.py --device cuda --shape "$shape" 2>"$out/train_step-$shape.err" |
    tee "$out/train_step-$shape.log"; then
    # The last line is a JSON list; one object a line is easier to gather from several machines.
    tail -n 1 "$out/train_step-$shape.log" |
      "$python" -c 'import json, sys
for found in json.load(sys.stdin): print(json.dumps(found))' >>"$out/train_step.jsonl"
  else
    echo "train_step.py --shape $shape failed: $out/train_step-$shape.err" >&2
    failed=1
  fi
done
if "$python" benchmarks/gpu/train.py ${LLAMAFACTORY:+--llamafactory "$LLAMAFACTORY"} 2>"$out/train.err" | tee "$out/train.log"; then
  tail -n 1 "$out/train.log" >"$out/train.json"
else
  echo "gpu/train.py failed: $out/train.err" >&2
  failed=1
fi
if "$python" benchmarks/gpu/experts.py 2>"$out/experts.err" | tee "$out/experts.log"; then
  tail -n 1 "$out/experts.log" >"$out/experts.json"
else
  echo "gpu/experts.py failed: $out/experts.err" >&2
  failed=1
fi
"$python" -m pytest tests -q -k "cuda" --junitxml "$out/tests.xml" | tee "$out/tests.log" || failed=1
exit $failed
