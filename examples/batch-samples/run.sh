#!/usr/bin/env bash
# One tool over a set of samples on AWS Batch: see README.md.
set -euo pipefail
cd "$(dirname "$0")"

: "${BUCKET:?the bucket that the jobs read and write}" "${IMAGE:?an image with bash and aws}"
RUN=${RUN:-run-$(date +%s)}
OUTPUT=${OUTPUT:-results-$RUN}
POLL=${POLL:-10s}
work=s3://$BUCKET/work/$RUN
output=s3://$BUCKET/output/$RUN

samples=()
for file in samples/*.txt; do
    name=${file##*/}
    samples+=("${name%.txt}")
done

echo "--- register: once for a tool; the same again changes nothing"
runner batch register bioagent-count --image "$IMAGE" --cpus 1 --memory 512MiB --volume /tmp:/work

echo "--- stage in"
runner batch put samples "$work/input/"

echo "--- count: a job for each sample"
ids=()
for sample in "${samples[@]}"; do
    ids+=("$(runner batch submit bioagent-count --name "bioagent-$RUN-count-$sample" \
        --env "INPUT=$work/input/$sample.txt" --env "OUTPUT=$work/count/$sample/" -- /bin/bash -ec '
            here=$(mktemp -d) && cd "$here"
            aws s3 cp "$INPUT" in.txt
            wc -l <in.txt >count.txt
            echo "counted $(cat count.txt) reads of $INPUT"
            aws s3 cp count.txt "$OUTPUT"')")
done

echo "--- poll the set until all have ended"
runner batch list --name "bioagent-$RUN-count"
runner batch wait "${ids[@]}" --poll-interval "$POLL"
runner batch logs "${ids[0]}"

echo "--- sort: the same command for all samples, as an array"
array=$(runner batch submit bioagent-count --name "bioagent-$RUN-sort" --array "${#samples[@]}" \
    --env "SAMPLES=${samples[*]}" --env "WORK=$work" -- /bin/bash -ec '
        set -- $SAMPLES
        shift "$AWS_BATCH_JOB_ARRAY_INDEX"
        here=$(mktemp -d) && cd "$here"
        aws s3 cp "$WORK/input/$1.txt" in.txt
        sort -k4n in.txt >sorted.txt
        aws s3 cp sorted.txt "$WORK/sort/$1/"')
runner batch wait "$array" --poll-interval "$POLL"
runner batch status "$array"

echo "--- what isn't needed: one that waits is cancelled, one that runs is terminated"
running=$(runner batch submit bioagent-count --name "bioagent-$RUN-idle" -- sleep 3600)
waiting=$(runner batch submit bioagent-count --name "bioagent-$RUN-after" --depends-on "$running" -- true)
runner batch cancel "$waiting" --reason "Cancelled by BioAgent"
runner batch terminate "$running" --reason "Terminated by BioAgent"
runner batch wait "$running" "$waiting" --poll-interval "$POLL" || echo "ended with $?, as asked"
runner batch explain "$running" "$waiting"

echo "--- collect what the steps left, in one place"
collect=$(runner batch submit bioagent-count --name "bioagent-$RUN-collect" \
    --env "SAMPLES=${samples[*]}" --env "WORK=$work" --env "OUTPUT=$output" -- /bin/bash -ec '
        here=$(mktemp -d) && cd "$here"
        for sample in $SAMPLES; do
            aws s3 cp "$WORK/count/$sample/count.txt" count.txt
            aws s3 cp "$WORK/sort/$sample/sorted.txt" "$sample.txt"
            echo "$sample $(cat count.txt)" >>counts.txt
            aws s3 cp "$sample.txt" "$OUTPUT/sorted/"
        done
        aws s3 cp counts.txt "$OUTPUT/"')
runner batch wait "$collect" --poll-interval "$POLL"

echo "--- download"
runner batch get "$output/" "$OUTPUT/"
cat "$OUTPUT/counts.txt"
