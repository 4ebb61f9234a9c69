# Removes the folder it runs in.
rmdir "$PWD"
