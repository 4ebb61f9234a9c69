# A thousand children that nobody waits for.
for _ in {1..1000}; do sleep 100 & done
echo started
