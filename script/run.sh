#!/usr/bin/env bash
# Sets up .venv where needed and runs the main job: a dataset through DMLR, to OUTPUT_DIR/results.json.
# Edit the variables below, or set them in the environment:
#     MODEL=Qwen/Qwen2.5-VL-7B-Instruct DATASET=data/mathvista.json bash script/run.sh
# Arguments go to main.py and win over the variables: bash script/run.sh --method vanilla --seed 1
# `.venv/bin/python main.py --help` lists every flag.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# What to run. Used when this machine has a CUDA device and both are set; otherwise the shipped demo runs.
MODEL=${MODEL:-}                                  # hub id or local folder
DATASET=${DATASET:-}                              # JSON file, or a name that lies under data/

# Where to. A fresh dated folder each time, so that no run writes over another; to go on with an interrupted one:
#     OUTPUT_DIR=output/that-folder bash script/run.sh --resume
OUTPUT_DIR=${OUTPUT_DIR:-output/$(date +%Y%m%d-%H%M%S)}

# Which rows: START <= row < END, the end clipped to the dataset.
START_DATA_IDX=${START_DATA_IDX:-0}
END_DATA_IDX=${END_DATA_IDX:-100000}

METHOD=${METHOD:-dmlr}                            # dmlr, or vanilla: the same prompt without thoughts
PRESET=${PRESET:-paper}                           # paper, reference or tuned: thoughts, steps, noise, patches
SEED=${SEED:-42}
BATCH_SIZE=${BATCH_SIZE:-auto}                    # samples optimised side by side; never changes the results
MAX_NEW_TOKENS=${MAX_NEW_TOKENS:-}                # empty: 2048, on the demo 256

bash script/setup.sh

has_cuda() {
    .venv/bin/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'
}

if [[ -n "$MODEL" && -n "$DATASET" ]] && has_cuda; then
    MAX_NEW_TOKENS=${MAX_NEW_TOKENS:-2048}
else
    if [[ -n "$MODEL$DATASET" ]]; then
        echo "run: MODEL and DATASET are used only when both are set and a CUDA device is there; running the demo." >&2
        echo "run: to run them on a CPU all the same, call main.py: .venv/bin/python main.py --help" >&2
    fi
    MODEL=demo
    DATASET=data/demo/demo.json
    MAX_NEW_TOKENS=${MAX_NEW_TOKENS:-256}
fi

exec .venv/bin/python main.py \
    --model_name_or_path "$MODEL" \
    --dataset "$DATASET" \
    --output_dir "$OUTPUT_DIR" \
    --start_data_idx "$START_DATA_IDX" \
    --end_data_idx "$END_DATA_IDX" \
    --method "$METHOD" \
    --preset "$PRESET" \
    --seed "$SEED" \
    --batch_size "$BATCH_SIZE" \
    --max_new_tokens "$MAX_NEW_TOKENS" \
    "$@"
