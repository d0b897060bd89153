"""Images: axes and planes, files, patches, simulated stacks."""
