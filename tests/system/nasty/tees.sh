# Sends its own output through a child that outlives it by a moment.
exec > >(tee "$1")
for i in {1..1000}; do echo "line $i"; done
