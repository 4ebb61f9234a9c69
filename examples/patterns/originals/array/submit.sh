#!/bin/bash
set -e
mkdir -p logs
part=$(sbatch --parsable part.sbatch)
sbatch --dependency=afterany:$part summary.sbatch
