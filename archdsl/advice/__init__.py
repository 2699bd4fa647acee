"""Changes of a spec that errors propose, each tried before it is shown."""
