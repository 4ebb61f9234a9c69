"""An AWS account as runner needs it: setup, permissions, quotas, prices, doctor."""
