"""What everything stands on: errors, options, paths, weights, workers, words. Nothing is loaded here; ask a module by its name."""
