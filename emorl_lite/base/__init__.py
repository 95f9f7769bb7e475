"""What everything stands on: errors, options, paths, files, texts, weights, words. Nothing is loaded here; ask a module by its name."""
