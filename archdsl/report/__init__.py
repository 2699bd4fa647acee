"""Reports on networks: tables, summaries, explanations, comparisons."""
