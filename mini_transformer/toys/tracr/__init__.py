"""Programs in RASP that Tracr compiled to weights."""
