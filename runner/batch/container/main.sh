# Runs COMMAND in the user's image. Needs a POSIX shell, find and cp, and nothing else.
#
# stage.py has put this file, the environment and what else there is into $RUNNER_VOLUME/main;
# agent.py watches it from the next container. It has the clock: what is to be signalled, and when,
# comes from it by the pipe "orders".
#
#   begun      this container has the pipe "alive" open, until it ends
#   started    COMMAND is about to begin
#   stopped    the container was asked to end (SIGTERM) before COMMAND had ended
#   code       COMMAND has ended: its status, and what this shell said of it, if anything
#   unrunnable COMMAND can't be run: why
#   end        what belongs to other containers is in the volume: nothing more comes
#
# As process 1 of its container it may signal whatever else is there: all of it is COMMAND's.

runner_home=$RUNNER_VOLUME/main

# Where there is bash it runs this as well: other shells have what runs beside them ignore SIGINT.
if [ -z "${BASH_VERSION-}" ] && [ -x /bin/bash ]; then
    exec /bin/bash "$runner_home/main.sh" "$@"
fi
if [ -n "${BASH_VERSION-}" ]; then runner_shell=/bin/bash; else runner_shell=/bin/sh; fi

folder() {  # make a folder, and those above it; there may be no mkdir
    [ -z "$1" ] || [ -d "$1" ] && return
    folder "${1%/*}"
    [ -d "$1" ] || cp -R "$runner_home/empty" "$1"
}

if [ "${1-}" = copy ]; then  # copy FROM TO FILE...: each to the same path below TO
    from=$2 to=$3 failed=0
    shift 3
    for file; do
        [ -f "$file" ] || continue
        target=$to${file#"$from"}
        folder "${target%/*}" && cp -p "$file" "$target" || failed=1
    done
    exit $failed
fi

unrunnable() {
    echo "$1" > "$runner_home/unrunnable"
    echo end > "$runner_home/end"
    exit 1
}

signal_tree() {  # all that COMMAND has started; whether there was any
    if [ $$ -eq 1 ]; then
        kill "-$1" -1 2> /dev/null  # so said it is understood by dash, bash and busybox
        return
    fi
    # Not alone: what is of its session, as far as the system tells.
    any=1
    for each in /proc/[0-9]*; do
        { read -r found < "$each/stat"; } 2> /dev/null || continue
        set -- "$1" ${found##*) }
        case " $$ $command_pid $listener_pid " in *" ${each#/proc/} "*) continue ;; esac
        if [ "${5-}" = $$ ] && [ "$2" != Z ]; then
            kill -s "$1" "${each#/proc/}" 2> /dev/null && any=0
        fi
    done
    return $any
}

some_left() {
    ( : )  # reaps
    signal_tree 0
}

terminate() {  # once: many programs take a second SIGTERM for a command to hurry
    [ -z "$command_pid" ] || [ -n "$terminated" ] && return
    terminated=1
    signal_tree TERM
}

asked_to_end() {
    [ -e "$runner_home/code" ] && return
    echo stopped > "$runner_home/stopped"
    terminate
}

umask 022
command_pid=
terminated=
listener_pid=
trap asked_to_end TERM
trap terminate USR1
trap 'signal_tree KILL' USR2

# Its end is known to the agent by this pipe's, whatever becomes of it.
exec 9<> "$runner_home/alive"
# One container only, however often it is started.
( set -C; echo $$ > "$runner_home/begun" ) 2> /dev/null || exit 1
. "$runner_home/settings"

if [ -e "$runner_home/place" ]; then
    find "$runner_home/place" -type f -exec "$runner_shell" "$runner_home/main.sh" copy "$runner_home/place" "" {} + ||
        unrunnable "files that it needs can't be written where they belong"
fi
cd "$runner_directory" 2> /dev/null || unrunnable "working directory $runner_directory does not exist"
[ ! -e "$runner_home/stopped" ] || unrunnable "it was asked to end before COMMAND began"

# Open as long as this shell lives: an order that comes before the listener has begun isn't lost.
exec 8<> "$runner_home/orders"
(
    trap '' TERM
    while read -r order <&8 && [ "$order" != quit ]; do
        kill -s "$order" $$
    done
) 9>&- &
listener_pid=$!

echo started > "$runner_home/started"
(
    trap : TERM USR1 USR2
    [ -z "${BASH_VERSION-}" ] || trap - INT QUIT
    # A shell says what ended by a signal: an exit with 137 isn't one.
    exec 2> "$runner_home/said"
    (
        exec < /dev/null >> "$runner_home/stdout" 2>> "$runner_home/stderr"
        unset RUNNER_VOLUME RUNNER_SUBMISSION RUNNER_BUNDLE RUNNER_SHARED
        set -- "$runner_shell" -c
        # COMMAND's variables are nobody else's; its last line is COMMAND.
        . "$runner_home/environment"
    )
    status=$?
    read -r said 2> /dev/null < "$runner_home/said"
    echo "$status ${said:+signal}" > "$runner_home/code"
) 8>&- 9>&- &
command_pid=$!

while :; do
    wait "$command_pid" 2> /dev/null
    [ ! -e "$runner_home/code" ] && kill -0 "$command_pid" 2> /dev/null || break
done
trap '' USR1 USR2
[ -e "$runner_home/code" ] || echo "137 signal" > "$runner_home/code"
echo quit >&8
wait "$listener_pid" 2> /dev/null

if some_left; then
    while some_left && read -r order <&8; do
        case $order in
            USR1) signal_tree TERM ;;
            USR2) signal_tree KILL ;;
            quit) ;;  # the listener was killed before it read this
            *) break ;;
        esac
    done
fi

outside() {  # outside PATH CONDITION...: files that a pattern may mean
    find -H "$@" \( -type f -o -type l \) -exec "$runner_shell" "$runner_home/main.sh" copy "" "$runner_home/outside" {} +
} 2> /dev/null
[ ! -e "$runner_home/patterns" ] || . "$runner_home/patterns"

usage() {
    for file in memory.peak memory/memory.max_usage_in_bytes; do
        [ -r "$1/$file" ] && read -r found < "$1/$file" && echo "memory $found"
    done
    [ -r "$1/cpu.stat" ] && while read -r name found; do
        [ "$name" != usage_usec ] || echo "cpu_usec $found"
    done < "$1/cpu.stat"
    [ -r "$1/cpuacct/cpuacct.usage" ] && read -r found < "$1/cpuacct/cpuacct.usage" &&
        echo "cpu_nsec $found"
    for file in memory.events memory/memory.oom_control; do
        [ -r "$1/$file" ] && while read -r name found; do
            [ "$name" != oom_kill ] || echo "oom_kill $found"
        done < "$1/$file"
    done
}
[ $$ -ne 1 ] || usage /sys/fs/cgroup > "$runner_home/usage" 2> /dev/null
read -r status said < "$runner_home/code"
echo end > "$runner_home/end"
exit "$status"
