"""Makes `tests.testinfra` a name of its own beside the installed package `testinfra`."""
