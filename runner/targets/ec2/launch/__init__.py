"""From a launch request to an instance that runs its queue."""
