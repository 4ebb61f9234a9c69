#!/bin/bash
set -e
mkdir -p logs
point=$(sbatch --parsable point.sbatch)
sbatch --dependency=afterany:$point best.sbatch
