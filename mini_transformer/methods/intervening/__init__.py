"""Change a run or the weights, and measure what follows."""
