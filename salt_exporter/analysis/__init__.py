"""Pure state machines: no I/O, time passed in. What the sources say becomes what an operator asks."""
