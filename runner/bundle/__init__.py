"""What an installation is made of: one file, built here, and the installer that is in it."""
