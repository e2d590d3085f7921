"""What Linux says about the master's sockets: knows the kernel's formats, no metrics."""
