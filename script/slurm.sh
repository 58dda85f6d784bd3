#!/bin/bash
# One DMLR run over several machines under Slurm. Edit the variables, then: sbatch script/slurm.sh
# Not finished in time? The job queues itself again and resumes. See docs/CLUSTER.md for what the machines share.

#SBATCH --job-name=dmlr
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --exclusive
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=dmlr-%j.log

MODEL=Qwen/Qwen2.5-VL-7B-Instruct
DATASET=mmvp
OUTPUT=output/$DATASET
WORKERS=16           # nodes x GPUs per node, or more with GPUS_PER_WORKER below 1
GPUS_PER_WORKER=1
LIMIT_SECONDS=13500  # below --time, with room for the samples in flight and for loading
MORE_FLAGS=(--preset paper --end_data_idx 1000000)

set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?run this with sbatch}"
source .venv/bin/activate
export HF_HUB_OFFLINE=1  # weights are downloaded before the job, so that no worker asks the hub

port=$((20000 + SLURM_JOB_ID % 10000))
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

summary=$(mktemp)
status=0
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" \
    ray symmetric-run --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
    python main.py --model_name_or_path "$MODEL" --dataset "$DATASET" --output_dir "$OUTPUT" --resume \
    --ray_address auto --num_workers "$WORKERS" --gpus_per_worker "$GPUS_PER_WORKER" \
    --limit_seconds "$LIMIT_SECONDS" "${MORE_FLAGS[@]}" | tee "$summary" || status=$?

# The last JSON line of a run says how many samples are left; 130 is a run that Slurm told to stop.
left=$(grep -o '"remaining": [0-9]*' "$summary" | tail -n 1 | grep -o '[0-9]*$' || echo unknown)
rm -f "$summary"
if [[ "$left" != 0 && ("$status" == 0 || "$status" == 130) ]]; then
    echo "$left samples are left: queueing again"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$status"
