"""lambdactl, the command line of the lambda platform."""
