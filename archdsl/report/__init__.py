"""What is said of networks: tables, summaries, explanations, comparisons."""
