"""Where a queue can run: this machine, EC2. Each target has its folder and knows no other."""
