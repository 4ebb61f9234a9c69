# Sourced by the jobs of the kill matrix: a job proves about itself that it ran as it should.
#
#   . witness.sh; begin; work 0.05; fail_first 1 3; make x.txt; end
#
# $PROOF is the queue's folder of evidence. A second execution of one attempt finds its file there
# and says "twice"; a second attempt beside a living one finds the lock taken and says "beside".

# The run that this attempt belongs to: --fresh begins to count anew.
RUN=${RUNNER_ATTEMPT_TOKEN%%-*}

tell() {
    local up
    read -r up _ < /proc/uptime
    printf '%s %s %s %s %s\n' "$up" "$RUN" "$JOB_ID" "$JOB_ATTEMPT" "$1" >> "$PROOF/log"
}

begin() {
    # noclobber opens with O_EXCL
    set -C
    if ! : > "$PROOF/once/$RUN.$JOB_ID.$JOB_ATTEMPT"; then tell twice; exit 91; fi
    set +C
    exec 9>> "$PROOF/alone/$JOB_ID"
    if ! flock -n 9; then tell beside; exit 92; fi
    tell start
    echo "output of $JOB_ID"
}

end() { tell "end-${1:-0}"; exit "${1:-0}"; }

# Lasts; the lock goes with whatever is left of the job.
work() { sleep "$1"; }

# Fails with code $2 in its first $1 executions that came this far.
fail_first() {
    local ended
    ended=$(grep -c " $JOB_ID [0-9]* end-$2\$" "$PROOF/log")
    if [ "$ended" -lt "$1" ]; then end "$2"; fi
}

make() {
    local to="$PROOF/out/$1"
    mkdir -p "${to%/*}" && echo "made by $JOB_ID" > "$to"
}

# Saves and exits 0 on SIGTERM, which must not count as completed.
until_term() {
    trap 'sleep 0.02; end 0' TERM
    while :; do sleep 0.01; done
}

# Lasts until the test lets it go.
until_let_go() { until [ -e "$PROOF/go" ]; do sleep 0.01; done; }

# Only SIGKILL ends it.
ignore_term() {
    trap '' TERM
    while :; do sleep 0.05; done
}
