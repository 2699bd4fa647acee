"""What every room uses: spec text, files, limits, threads, interrupts, units."""
