#!/bin/bash
set -e
mkdir -p logs
split=$(sbatch --parsable split.sbatch)
sample=$(sbatch --parsable --dependency=afterok:$split sample.sbatch)
sbatch --dependency=afterok:$sample merge.sbatch
