# Ignores SIGTERM, and so do its children.
trap '' TERM
sleep 100
sleep 100
