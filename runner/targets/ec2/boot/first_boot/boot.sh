#!/bin/sh
# The first boot of a machine that `runner launch` made; cloud-init runs this as root, once.
# The lifetime guard comes first: whatever fails after it, the machine ends.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 022
expires=@EXPIRES@
calendar='@CALENDAR@'
keep=@KEEP@
patience=@PATIENCE@
place=/var/lib/runner-boot
# In memory: what is told of a boot whose disk is full.
volatile=/run/runner-boot
log=/var/log/runner-bootstrap.log
resume=/etc/systemd/system/runner-boot.service

say() {
    echo "runner boot: $*"
    echo "runner boot: $*" >> $log
}

# The number of seconds that a machine of a schedule may live is told as +SECONDS: from its first boot.
case $expires in
+*)
    kept=$(cat $place/expires 2> /dev/null)
    expires=${kept:-$(($(date +%s) $expires))}
    mkdir -p $place && echo "$expires" > $place/expires.new && mv $place/expires.new $place/expires &&
        sync $place/expires
    ;;
esac

# Seconds of this boot, suspension included: a wall clock that is set changes nothing.
uptime() {
    cut -d. -f1 /proc/uptime
}

# Ends the machine at $expires, on whichever boot that is: the wall clock is read once a boot, and from
# then on the boot's own counts. $1: also so many seconds from now, or from the start of the next boot.
# On a full disk it is armed for this boot.
arm() {
    mkdir -p $volatile
    # A tool that is broken says nothing, and a shell ends at half a sum: it is over then, or sooner.
    up=$(uptime) now=$(date +%s)
    [ -s $volatile/expires ] ||
        echo $((${up:-0} + expires - ${now:-$expires})) > $volatile/expires
    rm -f $volatile/at-most
    [ -z "$1" ] || echo $((${up:-0} + $1)) > $volatile/at-most
    if ! arm_in /etc/systemd/system "$1"; then
        # What is empty there would stand before what is whole elsewhere.
        rm -f /etc/systemd/system/runner-expires.* /etc/systemd/system/runner-overdue.*
        arm_in /run/systemd/system "$1" --runtime
    fi
}

# Whole, or as it was: a power cut must not leave a lifetime guard that can't be started.
put() {
    cat > "$1.new" && mv "$1.new" "$1"
}

arm_in() {
    unit=$1/runner-expires
    mkdir -p "$1"
    put $unit.service <<END || return
[Unit]
Description=End this machine: its time is over, or it could not be set up
SuccessAction=poweroff
FailureAction=poweroff
[Service]
Type=oneshot
WorkingDirectory=-$place
ExecStart=-/usr/bin/env python3 -m first_boot.boot end
TimeoutStartSec=5min
END
    # In a later boot it is this that reads the wall clock.
    put "$1/runner-overdue.service" <<END || return
[Unit]
Description=See whether the time of this machine is over
FailureAction=poweroff
StartLimitIntervalSec=0
[Service]
Type=oneshot
LogLevelMax=notice
ExecStart=/bin/sh -c 'mkdir -p $volatile; cd $volatile; up=\$\$(cut -d. -f1 /proc/uptime); \\
    [ -s expires ] || echo \$\$((up + $expires - \$\$(date +%%s))) > expires; \\
    ${2:+[ -s at-most ] || echo \$\$((up + $2)) > at-most;} \\
    for each in expires at-most; do \\
        [ ! -s \$\$each ] || [ \$\$up -lt \$\$(cat \$\$each) ] || \\
            exec systemctl start --no-block runner-expires.service; \\
    done'
END
    put $unit.timer <<END || return
[Unit]
Description=When this machine is to end at the latest
[Timer]
OnBootSec=10s
OnUnitInactiveSec=1min
OnActiveSec=${2:-$(($(cat $volatile/expires) - $(uptime) + 1))}
Unit=runner-overdue.service
AccuracySec=1s
[Install]
WantedBy=timers.target
END
    systemctl daemon-reload && systemctl enable --quiet $3 runner-expires.timer &&
        systemctl restart runner-expires.timer || return
    # A power cut may come, and user-data not run again.
    sync $unit.service "$1/runner-overdue.service" $unit.timer "$1" "$1/timers.target.wants" || :
}

# User-data runs at the first boot only: should that be cut off, the next one goes on with this.
again() {
    [ "$0" = $place/boot.sh ] || cp "$0" $place/boot.sh || return
    cat > $resume <<END || return
[Unit]
Description=Go on with making this machine ready
Wants=network-online.target
After=network-online.target
[Service]
Type=oneshot
ExecStart=/bin/sh $place/boot.sh
StandardOutput=journal+console
[Install]
WantedBy=multi-user.target
END
    systemctl daemon-reload && systemctl enable --quiet runner-boot.service || return
    sync $place/boot.sh $resume /etc/systemd/system/multi-user.target.wants || :
}

never_again() {
    systemctl disable --quiet runner-boot.service || rm -f $resume
}

end_now() {
    say "the machine ends: $*"
    systemctl start --no-block runner-expires.service || systemctl poweroff || poweroff ||
        shutdown -P now || poweroff -f
    exit 1
}

failed() {
    say "FAILED: $*"
    never_again
    [ -z "$python" ] || ask 90 report "$*"
    [ "$keep" -gt 0 ] || end_now "$*"
    arm "$keep" || end_now "$*, and it can't be kept for a look"
    say "the machine ends in $keep s; to look at it until then: $log"
    exit 1
}

# $1: seconds for it; $2: what the program is asked for.
ask() {
    ( cd $place && exec timeout -k 10 "$1" "$python" -m first_boot.boot "$2" "$3" ) 2>> $log
}

# What the machine is to do, and with what.
lay_out() {
    place=$1
    mkdir -p $place/first_boot $place/runner/bundle/bare || return
    : > $place/runner/__init__.py && : > $place/runner/bundle/__init__.py || return
@PROGRAM@
    cat > $place/boot.json <<'END_OF_BOOT_JSON' || return
@BOOT_JSON@
END_OF_BOOT_JSON
}

arm $((patience + keep)) || end_now "its lifetime guard can't be armed"
rm -f $volatile/why $volatile/bootstrap.json
full=
if ! lay_out $place; then
    full="nothing can be written to $place: $(df -h $place 2> /dev/null | tail -n 1)"
    # Where the reason can be told from, and the spot request be given back.
    lay_out $volatile && arm $((patience + keep))
fi
mkdir -p $volatile
echo "runner boot: $(date)" >> $log || log=$volatile/log
export RUNNER_BOOT_PLACE=$place RUNNER_BOOT_LOG=$log RUNNER_BOOT_EXPIRES="$expires"
# A spot request that opens again boots a new machine with the old user-data.
[ "$(date +%s)" -lt "$expires" ] || end_now "its time was over before it began"
say "armed: the machine ends $calendar at the latest"
again || say "a power cut from here on would not be made up for"

python=
for each in python3 python3.13 python3.12 python3.11 /usr/libexec/platform-python; do
    if "$each" -c 'import sys; assert sys.version_info >= (3, 6); import ssl' 2> /dev/null; then
        python=$each
        break
    fi
done
[ -n "$python" ] || failed "this image has no python3: nothing could be fetched"
[ -z "$full" ] || failed "$full"
if ask "$patience" boot; then
    :
else
    status=$?
    why=$(cat $volatile/why 2> /dev/null)
    # Nothing to look at, and nothing to do.
    [ $status != 3 ] || end_now "$why"
    [ $status != 124 ] || why="not ready after $patience s"
    failed "${why:-the bootstrap broke off, exit status $status}"
fi
# From here on the installed service minds the machine; this is what is left if it can't.
arm || failed "its lifetime guard can't be set to its lifetime"
never_again
say "READY"
