# Kills the process that is to record its end, after it has left something that can't be told
# from a stranger by its environment, its session, its folder or its files.
cd /
env -i setsid -f /bin/sleep "$1" </dev/null >/dev/null 2>&1
kill -KILL $PPID
exec env -i /bin/sleep 100
